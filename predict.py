"""Paddle-CycleMLP's `predict.py`, by `cyclemlp.legacy`: see docs/migrating-from-paddle-cyclemlp.md."""

import sys

from cyclemlp.legacy.use import predict

if __name__ == "__main__":
    sys.exit(predict())
