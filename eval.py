"""The seed project's `eval.py`, kept alive by `cyclemlp eval`: see docs/migrating-from-the-seed.md."""

import sys

from cyclemlp.cli.seed import evaluate

if __name__ == "__main__":
    sys.exit(evaluate())
