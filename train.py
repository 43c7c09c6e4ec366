"""The seed project's `train.py`, kept alive by `cyclemlp train`: see docs/migrating-from-the-seed.md."""

import sys

from cyclemlp.cli.seed import train

if __name__ == "__main__":
    sys.exit(train())
