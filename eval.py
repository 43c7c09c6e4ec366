"""Paddle-CycleMLP's `eval.py`, by `cyclemlp.legacy`: see docs/migrating-from-paddle-cyclemlp.md."""

import sys

from cyclemlp.legacy.use import evaluate

if __name__ == "__main__":
    sys.exit(evaluate())
