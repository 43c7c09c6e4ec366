"""Does folder prediction overlap decoding with the network?

    python benchmarks/predict_overlap.py EXPORTED [--folder DIR] [--batch 8] [--workers 0]

EXPORTED is what `cyclemlp export` wrote: `cyclemlp export --model cyclemlp_b1 …`, or without it a cyclemlp_b1 with
random weights is exported. In each round the images are read and prepared alone, run through the network alone, and
predicted as `cyclemlp predict` does, in turn; printed are medians over the rounds in images/s, and
prediction's share of the slower of the other two. The bar: at least 85 %. Without --folder, 500×375 JPEGs of
scikit-learn's two photographs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from loader import write_images  # the program beside this one

from cyclemlp.data import ImageFiles, build_loader, evaluation_transform
from cyclemlp.deploy import RUNTIMES, ExportedModel, load_exported
from cyclemlp.evaluation import predict

BAR_PERCENT = 85


def measure(model: ExportedModel, paths: list[Path], args: argparse.Namespace) -> dict[str, float]:
    """Medians of images/s, by way."""
    loader = build_loader(
        ImageFiles(paths),
        evaluation_transform(model.metadata.preprocessing),
        batch_size=args.batch,
        num_workers=args.workers,
    )
    images = next(iter(loader)).images.copy()

    def decode() -> int:
        return sum(len(batch.indices) for batch in loader)

    def network() -> int:
        whole, rest = divmod(len(paths), args.batch)
        return sum(len(model.logits(images[:n])) for n in [args.batch] * whole + [rest] * bool(rest))

    def both() -> int:
        return sum(1 for _ in predict(model.logits, loader, progress=False))

    speeds: dict[str, list[float]] = {"decoding alone": [], "network alone": [], "prediction": []}
    for number in range(args.rounds + 1):
        for name, way in zip(speeds, (decode, network, both), strict=True):
            begun = time.perf_counter()
            count = way()
            assert count == len(paths)
            if number:  # the first warms up
                speeds[name].append(count / (time.perf_counter() - begun))
    return {name: statistics.median(values) for name, values in speeds.items()}


def export_random(folder: Path) -> Path:
    """A cyclemlp_b1 with random weights: its speed is that of a trained one."""
    import cyclemlp

    cyclemlp.tune()
    cyclemlp.export_model(cyclemlp.create_model("cyclemlp_b1"), folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("exported", nargs="?", type=Path)
    parser.add_argument("--runtime", choices=RUNTIMES)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--folder", type=Path, help="folder of JPEGs to read instead")
    parser.add_argument("--images", type=int, default=256, help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=0, help="of the loader (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = load_exported(
            args.exported or export_random(Path(scratch) / "b1"), args.runtime, threads=args.threads
        )
        if args.folder:
            paths = sorted(p for p in args.folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
            paths = paths[: args.images]
        else:
            paths = write_images(Path(scratch), (500, 375), args.images)
        medians = measure(model, paths, args)
    print(
        f"{model.metadata.model}, {model.runtime}, batch {args.batch}, {len(paths)} images, medians of {args.rounds}"
    )
    for name, speed in medians.items():
        print(f"{name:16}{speed:8.1f} images/s")
    slower = min(medians["decoding alone"], medians["network alone"])
    share = 100 * medians["prediction"] / slower
    print(f"prediction is {share:.0f} % of the slower of the two (bar: {BAR_PERCENT} %)")


if __name__ == "__main__":
    main()
