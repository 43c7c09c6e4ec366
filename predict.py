"""The seed project's `predict.py`, kept alive by `cyclemlp predict`: see docs/migrating-from-the-seed.md."""

import sys

from cyclemlp.cli.seed import predict

if __name__ == "__main__":
    sys.exit(predict())
