"""Paddle-CycleMLP's `train.py`, by `cyclemlp.legacy`: see docs/migrating-from-paddle-cyclemlp.md."""

import sys

from cyclemlp.legacy.train import main

if __name__ == "__main__":
    sys.exit(main())
