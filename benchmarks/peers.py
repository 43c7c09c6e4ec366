"""How fast is the network beside the same one in PyTorch, and beside its floor?

    python benchmarks/peers.py                                    B1: one image, eight, a training step; the bars
    python benchmarks/peers.py --models cyclemlp_b2 cyclemlp_nano --rounds 5
    python benchmarks/peers.py --sides ours "PyTorch" floor --json peers.json

The sides, each a process of its own with the same number of threads, work in turn:

    deform           Paddle-CycleMLP's form, by deformable convolution, in Paddle as installed
    plain            ours with `kernels="plain"`
    ours             ours as `create_model` gives it
    PyTorch          the same network in PyTorch, eager, written for a CPU (torch_cyclemlp.py)
    PyTorch compile  the same under torch.compile
    ONNX Runtime, OpenVINO    our export, without training
    floor            the matrix products of the network alone, by paddle.matmul: linears, Cycle FCs, convolutions as
                     products; in a training step also both products of each one's gradient

PyTorch runs in an environment of its own, `.venv-torch`, made at the first use (some GB). It is checked that it gives
our logits from our weights. The variants that it knows are the published ones and those with a gate.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sides import Side, judge, work_when_told  # the program beside this one
from speed import build, paddle_work

from cyclemlp._tune import processor_facts

HERE = Path(__file__).parent
TORCH = HERE.parent / ".venv-torch"
SIDES = ("deform", "plain", "ours", "PyTorch", "PyTorch compile", "ONNX Runtime", "OpenVINO", "floor")
#: Images of a batch and of a training step, and pixels, of a variant.
TASKS = ("one image", "a batch", "training step")
BATCH, SIZE = {"cyclemlp_nano": 128}, {"cyclemlp_nano": 32}
FASTER_THAN_PYTORCH, OVER_THE_FLOOR = 1.15, 1.7


def prepare(name: str, folder: Path, sides: list[str]) -> None:
    """Leaves weights, logits and exports of a variant in a folder; checks PyTorch's logits."""
    import numpy as np
    import paddle

    import cyclemlp

    paddle.seed(0)
    model = cyclemlp.create_model(name)
    model.eval()
    config = {**model.config.to_dict(), "patch_padding": list(model.config.patch_padding)}
    (folder / "config.json").write_text(json.dumps(config))
    np.savez(folder / "weights.npz", **{key: value.numpy() for key, value in model.state_dict().items()})
    if {"ONNX Runtime", "OpenVINO"} & set(sides):
        cyclemlp.export_model(model, folder / "onnx", "onnx")
    if {"PyTorch", "PyTorch compile"} & set(sides):
        image = np.random.default_rng(0).standard_normal((2, 3, 64, 96)).astype(np.float32)
        np.save(folder / "image.npy", image)
        program = [
            str(python_of_torch()),
            str(HERE / "torch_cyclemlp.py"),
            "--worker",
            "PyTorch",
            str(folder),
        ]
        subprocess.run([*program, "logits", "1", "32", "1"], check=True)
        with paddle.no_grad():
            logits = model(paddle.to_tensor(image)).numpy()
        difference = np.abs(np.load(folder / "logits.npy") - logits).max() / np.abs(logits).max()
        if difference > 1e-4:
            raise SystemExit(f"PyTorch's network is another one: its logits differ by {difference:.1e}")


def python_of_torch() -> Path:
    """The Python of PyTorch's environment, which is made if it is not there."""
    python = TORCH / "bin" / "python"
    if not python.is_file():
        print(f"making {TORCH} with PyTorch …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(TORCH)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "torch", "numpy"], check=True)
    return python


def products(name: str, batch: int, size: int) -> list[tuple[int, int, int]]:
    """Rows, inner and outer width of each matrix product of a forward pass."""
    import cyclemlp

    config = cyclemlp.create_model(name).config
    found, side, before = [], size, 0
    for i, (c, ratio, depth) in enumerate(
        zip(config.embed_dims, config.mlp_ratios, config.depths, strict=True)
    ):
        side = -(-side // (2 if i else config.patch_stride))
        rows = batch * side * side
        found.append((rows, 9 * before if i else 3 * config.patch_size**2, c))
        hidden, branches = int(c * ratio), len(config.branches)
        block = [(rows, c, c)] * (branches + 1) + [(rows, c, hidden), (rows, hidden, c)]
        if config.gate:
            block += [(batch, c, c // 4), (batch, c // 4, branches * c)]
        found += block * depth
        before = c
    return [*found, (batch, before, config.num_classes)]


def worker(side: str, name: str, folder: str, work: str, batch: int, size: int, threads: int) -> None:
    """One side's work."""
    import cyclemlp

    if side != "deform":
        cyclemlp.tune()
    import numpy as np
    import paddle

    train = work == "training step"
    once: Callable[[], Any]
    if side == "floor":
        pairs = [
            (paddle.randn([n, k]), paddle.randn([k, m]), paddle.randn([n, m]))
            for n, k, m in products(name, batch, size)
        ]

        @paddle.no_grad()
        def once() -> None:
            for x, w, y in pairs:
                paddle.matmul(x, w)
                if train:
                    paddle.matmul(y, w, transpose_y=True)
                    paddle.matmul(x, y, transpose_x=True)

    elif side in ("ONNX Runtime", "OpenVINO"):
        runtime = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino"}[side]
        exported = cyclemlp.load_exported(Path(folder) / "onnx", runtime, "float32", threads)
        images = np.random.default_rng(1).normal(size=(batch, 3, size, size)).astype(np.float32)

        def once() -> None:
            exported.logits(images)

    else:
        if side == "deform":
            network = build("deform", name)
        else:
            network = cyclemlp.create_model(name, kernels="plain" if side == "plain" else "auto")
        once = paddle_work(network, [batch, 3, size, size], train)

    work_when_told(once)


def measure(name: str, work: str, folder: Path, args: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Of each side: milliseconds, and the peak of its memory in MB."""
    batch = 1 if work == "one image" else BATCH.get(name, 8)
    sides = {}
    for side in args.sides:
        if work == "training step" and side in ("ONNX Runtime", "OpenVINO"):
            continue
        if side == "deform" and name in SIZE:  # speed.py has it for the published variants
            continue
        torch = side.startswith("PyTorch")
        more = [str(folder), work, str(batch), str(SIZE.get(name, 224)), str(args.threads)]
        sides[side] = Side(
            str(HERE / "torch_cyclemlp.py") if torch else __file__,
            [side, *([] if torch else [name]), *more],
            args.threads,
            str(python_of_torch()) if torch else sys.executable,
        )
    for _ in range(args.rounds):
        for side in sides.values():
            side.work()
    for side in sides.values():
        side.close()
    return {name: (side.median("wall"), side.samples[-1].megabytes) for name, side in sides.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["cyclemlp_b1"], metavar="NAME")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures, too")
    args = parser.parse_args()
    results: dict[str, dict[str, dict[str, tuple[float, float]]]] = {}
    print(f"{processor_facts()['name']}, {args.threads} threads, medians of {args.rounds} rounds")
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder:
            prepare(name, Path(folder), args.sides)
            for work in args.tasks:
                found = measure(name, work, Path(folder), args)
                results.setdefault(name, {})[work] = found
                print(f"\n{name} {SIZE.get(name, 224)}², {work} ({BATCH.get(name, 8)} images in a batch)")
                print(f"{'':18}{'ms':>9}{'to ours':>9}{'to floor':>10}{'peak MB':>9}")
                for side, (ms, peak) in found.items():
                    ratios = [
                        f"{ms / found[other][0]:.2f}" if other in found else "" for other in ("ours", "floor")
                    ]
                    print(f"{side:18}{ms:9.1f}{ratios[0]:>9}{ratios[1]:>10}{peak:9.0f}", flush=True)
        if args.json:
            args.json.write_text(json.dumps(results, indent=1))
    print()
    for work, found in results.get("cyclemlp_b1", {}).items():
        torch = [found[side][0] for side in ("PyTorch", "PyTorch compile") if side in found]
        if "ours" in found and torch:
            judge(
                f"{work}: the faster PyTorch / ours",
                min(torch) / found["ours"][0],
                FASTER_THAN_PYTORCH,
                False,
            )
        if work == "training step" and {"ours", "floor"} <= set(found):
            judge(f"{work}: ours / floor", found["ours"][0] / found["floor"][0], OVER_THE_FLOOR, True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        side, name, folder, work, *numbers = sys.argv[2:]
        worker(side, name, folder, work, *map(int, numbers))
    else:
        main()
