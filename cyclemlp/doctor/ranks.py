"""One of two processes of `checks.two_processes`: half of a batch, gradients averaged over both.

Paddle's launcher starts it: `python -m paddle.distributed.launch … ranks.py FOLDER cpu|gpu`; it writes
FOLDER/rankN.npz.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import numpy as np

from cyclemlp.doctor.golden import CASES, IMAGES, Result, build, compute, without_tf32
from cyclemlp.training.distributed import join

CASE = CASES[0]
#: After which the process ends, whatever it waits for.
LONGEST_SECONDS = 300
LOGITS = "logits"  # no parameter's name


def read(folder: Path, rank: int) -> Result:
    """What a process has written."""
    with np.load(folder / f"rank{rank}.npz") as arrays:
        return Result(arrays[LOGITS], {name: arrays[name] for name in arrays if name != LOGITS})


def main() -> int:
    """Compute and write."""
    import paddle

    signal.alarm(LONGEST_SECONDS)  # nobody may be left who would end it
    folder, device = Path(sys.argv[1]), sys.argv[2]
    if device == "cpu":
        paddle.set_device("cpu")
    world = join("cpu" if device == "cpu" else None)
    model = build(CASE, "float32")
    with without_tf32():
        result = compute(model, CASE, network=world.wrap(model), part=(world.rank, world.size))
    gradients = {name: value for name, value in result.gradients.items() if name != IMAGES}
    np.savez(folder / f"rank{world.rank}.npz", **{LOGITS: result.logits, **gradients})  # type: ignore[arg-type]
    return 0


if __name__ == "__main__":
    sys.exit(main())
