"""How fast are exported models in each runtime, against deformable convolution in Paddle as installed?

    python benchmarks/runtimes.py                 B1 at 224², one image and eight; the bars
    python benchmarks/runtimes.py --clock cpu --threads 1     processor time: for a machine that is not quiet

Sides, each in a process of its own and with the same number of threads: the network with deformable convolution in
Paddle as installed (as in benchmarks/speed.py); ours in every runtime and precision; and in the float32 runtimes the
network with a channel FC in each Cycle FC's place, which is the one of step size 1. In each round every side works
once, in turn; printed are medians over the rounds, and ratios of medians. Accuracy: benchmarks/export_accuracy.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from sides import Side, judge, work_when_told  # the programs beside this one
from speed import build

#: Runtime, precision.
WAYS = [
    ("onnxruntime", "float32"),
    ("openvino", "float32"),
    ("paddle", "float32"),
    ("openvino", "bfloat16"),
    ("onnxruntime", "int8"),
    ("openvino", "int8"),
]
FLOAT32 = [way for way in WAYS if way[1] == "float32"]
BATCHES = (1, 8)


def write_models(name: str, folder: Path) -> None:
    """ours-onnx, ours-paddle, ours-int8 and channel-onnx, channel-paddle."""
    import numpy as np
    import paddle

    import cyclemlp

    for network, overrides in (("ours", {}), ("channel", {"step_size": 1})):
        paddle.seed(0)
        model = cyclemlp.create_model(name, **overrides)
        for form in ("onnx", "paddle"):
            cyclemlp.export_model(model, folder / f"{network}-{form}", form)
        if network == "ours":  # random images suffice for speed
            images = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
            cyclemlp.export_model(model, folder / "ours-int8", calibration=[images])


def worker(
    network: str, runtime: str, precision: str, batch: int, threads: int, folder: str, name: str
) -> None:
    """One side's work: a batch."""
    import numpy as np

    images = np.random.default_rng(1).normal(size=(batch, 3, 224, 224)).astype(np.float32)
    if network == "deform":
        import paddle

        model, tensor = build("deform", name), paddle.to_tensor(images)
        model.eval()

        @paddle.no_grad()
        def once() -> None:
            model(tensor)
    else:
        import cyclemlp

        if runtime == "paddle":
            cyclemlp.tune()
        form = "int8" if precision == "int8" else "paddle" if runtime == "paddle" else "onnx"
        exported = cyclemlp.load_exported(Path(folder) / f"{network}-{form}", runtime, precision, threads)

        def once() -> None:
            exported.logits(images)

    work_when_told(once)


def measure(batch: int, folder: str, args: argparse.Namespace) -> dict[tuple[str, str, str], float]:
    """(network, runtime, precision) → milliseconds."""
    keys = [("deform", "-", "-")]
    keys += [("ours", *way) for way in WAYS] + [("channel", *way) for way in FLOAT32]
    sides = {
        key: Side(__file__, [*key, str(batch), str(args.threads), folder, args.model], args.threads)
        for key in keys
    }
    for _ in range(args.rounds):
        for side in sides.values():
            side.work()
    for side in sides.values():
        side.close()
    return {key: side.median(args.clock) for key, side in sides.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="cyclemlp_b1", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=15, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: %(default)s")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    args = parser.parse_args()
    print(
        f"{args.model} at 224², {args.threads} threads, medians of {args.rounds} rounds, {args.clock} clock"
    )
    with tempfile.TemporaryDirectory() as folder:
        write_models(args.model, Path(folder))
        for batch in BATCHES:
            times = measure(batch, folder, args)
            images = "1 image" if batch == 1 else f"{batch} images"
            deform = times["deform", "-", "-"]
            print(f"\n{images}: deformable convolution in Paddle as installed {deform:.1f} ms")
            for (network, runtime, precision), milliseconds in times.items():
                if network != "deform":
                    label = f"{network}, {runtime} {precision}"
                    print(f"  {label:36} {milliseconds:8.1f} ms   {deform / milliseconds:6.2f}×")
            best = min(times[("ours", *way)] for way in FLOAT32)
            judge("deform / best float32 runtime", deform / best, 6.0 if batch == 1 else 9.0, False)
            if batch == 1:
                reduced = min(times[("ours", *way)] for way in WAYS if way not in FLOAT32)
                judge("deform / best of bfloat16 and int8", deform / reduced, 11.0, False)
            for way in FLOAT32:
                judge(
                    f"ours / channel FC in {way[0]}",
                    times[("ours", *way)] / times[("channel", *way)],
                    1.2,
                    True,
                )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        network, runtime, precision, batch, threads, folder, name = sys.argv[2:]
        worker(network, runtime, precision, int(batch), int(threads), folder, name)
    else:
        main()
