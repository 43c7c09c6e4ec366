"""What a process of a launched run does in the tests: python launched.py OUTPUT JSON.

JSON: `recipe` (assignments as `tiny_recipe` takes them), `images`, `val`, `workers`, `resume`, `float64`, and
`harm`: {"rank", "read", "what"}: what befalls one rank when it reads its n-th training image.

Each rank leaves OUTPUT.beginN.npz and OUTPUT.endN.npz, its parameters, and OUTPUT.rankN.json: what it wrote, and
which validation images it read.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import numpy as np  # noqa: E402  (the path is set above)
import paddle  # noqa: E402
from tiny_run import Some, tiny_recipe  # noqa: E402

from cyclemlp.errors import DataError  # noqa: E402
from cyclemlp.training import trainer  # noqa: E402
from cyclemlp.training.distributed import join  # noqa: E402

RANK = join().rank
MODELS = []
WRITTEN: list[str] = []
READ: list[int] = []


class Counted(Some):
    """Keeps which images were read."""

    def __getitem__(self, index):
        READ.append(index)
        return super().__getitem__(index)


def harm(what: str) -> None:
    if what == "error":
        raise DataError("digits/0007.png: this image is broken")
    if what == "bug":
        raise ZeroDivisionError("a mistake in the program")
    if what == "nan":
        (weight, *_) = MODELS[0].head.parameters()
        weight.set_value(paddle.full_like(weight, float("nan")))
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


def watch_writing(output: Path) -> None:
    def note(event: str, args: tuple) -> None:
        if event == "open":
            path, mode, flags = args
            writes = (isinstance(mode, str) and any(c in mode for c in "wax+")) or (flags or 0) & 3
        elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            path, writes = args[0], True
        else:
            return
        if writes and isinstance(path, str | os.PathLike) and str(path).startswith(f"{output}/"):
            WRITTEN.append(f"{event} {path}")

    sys.addaudithook(note)


def save(when: str) -> None:
    np.savez(f"{sys.argv[1]}.{when}{RANK}.npz", **{n: p.numpy() for n, p in MODELS[0].named_parameters()})


def keep_model(build):
    def build_and_keep(*args, **options):
        model = build(*args, **options)
        if paddle.get_default_dtype() == "float64":
            model.register_forward_pre_hook(lambda layer, inputs: inputs[0].astype("float64"))
        MODELS.append(model)
        save("begin")
        return model

    return build_and_keep


def main() -> None:
    output, asked = Path(sys.argv[1]), json.loads(sys.argv[2])
    if asked.get("float64"):
        paddle.set_default_dtype("float64")
    trainer.build_model = keep_model(trainer.build_model)
    watch_writing(output)
    doom = asked.get("harm", {})
    at = {doom["read"]: lambda: harm(doom["what"])} if doom.get("rank") == RANK else {}
    try:
        result = trainer.train(
            tiny_recipe(**asked.get("recipe", {})),
            Some("train", asked.get("images", 34), at),
            Counted("val", asked.get("val", 19)),
            output,
            workers=asked.get("workers", 0),
            resume=asked.get("resume"),
            show_progress=False,
            say=lambda text: print(text, flush=True),
        )
    except trainer.TrainingStoppedError as stopped:
        print(stopped, flush=True)
        raise SystemExit(128 + stopped.signal) from None
    save("end")
    told = {"written": WRITTEN, "read": READ, "epochs": result.epochs}
    Path(f"{output}.rank{RANK}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
