"""How many images/s does the loader give, against the plain way and against decoding alone?

    python benchmarks/loader.py [--size 500x375 2000x1500] [--folder DIR] [--workers 0]

Makes JPEGs of scikit-learn's two photographs, of ImageNet's usual size and of a camera's, in a temporary folder, or
takes those of --folder. In each round every way reads all of them once, in turn; printed are the medians over the
rounds, and each way's speed as a share of decoding alone. Without workers a second is one of processor time, so that
what else the machine does matters less. "Plain" is what a torchvision user writes: Pillow decodes and resizes, NumPy
divides and normalises image by image. Ways with the same letter do the same work. "8 bits" is without the
normalisation, which for a GPU is done there: it is what a worker process does.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
from PIL import Image
from sklearn.datasets import load_sample_image

from cyclemlp.data import ImageFiles, build_loader, evaluation_transform, training_transform
from cyclemlp.data.images import decode_image
from cyclemlp.data.transforms import random_resized_crop_box
from cyclemlp.preprocessing import Preprocessing

P = Preprocessing()
MEAN, STD = (np.asarray(values, dtype=np.float32)[:, None, None] for values in (P.mean, P.std))
BATCH = 64


def write_images(folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    """Random parts of the two photographs, at about ImageNet's bytes a pixel (quality 92)."""
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(load_sample_image(f"{name}.jpg")) for name in ("china", "flower")]
    paths = []
    for i in range(count):
        part = photographs[i % 2]
        part = part.crop(random_resized_crop_box(*part.size, (0.5, 1), (4 / 3, 4 / 3), rng)).resize(size)
        paths.append(folder / f"{i}.jpg")
        part.save(paths[-1], quality=92)
    return paths


def plain_pixels(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def plain_normalised(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    return (pixels - MEAN) / STD


def plain_training(path: Path, rng: np.random.Generator) -> np.ndarray:
    image = plain_pixels(path)
    box = random_resized_crop_box(*image.size, (0.08, 1), (3 / 4, 4 / 3), rng)
    image = image.crop(box).resize((224, 224), Image.Resampling.BICUBIC)
    return plain_normalised(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image)


def plain_evaluation(path: Path, rng: np.random.Generator) -> np.ndarray:
    image = plain_pixels(path)
    short = min(image.size)
    image = image.resize([int(256 * side / short) for side in image.size], Image.Resampling.BICUBIC)
    left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
    return plain_normalised(image.crop((left, top, left + 224, top + 224)))


def plain_batches(paths: list[Path], prepare: Callable[[Path, np.random.Generator], np.ndarray]) -> int:
    rng, count = np.random.default_rng(0), 0
    for start in range(0, len(paths), BATCH):
        count += len(np.stack([prepare(path, rng) for path in paths[start : start + BATCH]]))
    return count


def measure(paths: list[Path], workers: int, rounds: int) -> None:
    paths = paths * (4 if workers else 1)  # workers need some batches until they are at full speed
    source = ImageFiles(paths)
    recipe = {"auto_augment": "rand-m9-mstd0.5-inc1", "erasing_prob": 0.25}
    loaders = {
        "A crop, mirror: ours": build_loader(
            source, training_transform(P), batch_size=BATCH, shuffle=True, num_workers=workers
        ),
        "B evaluation: ours": build_loader(
            source, evaluation_transform(P), batch_size=BATCH, num_workers=workers
        ),
        "  the paper's whole recipe: ours": build_loader(
            source, training_transform(P, **recipe), batch_size=BATCH, shuffle=True, num_workers=workers
        ),
    }

    def read(name: str) -> Callable[[], int]:
        return lambda: sum(len(batch.indices) for batch in loaders[name])

    def read_8_bits() -> int:
        loader = loaders["A crop, mirror: ours"]
        return sum(len(loader._reader.read(keys)[0]) for keys in loader._keys)

    ways: dict[str, Callable[[], int]] = {
        "  decoding alone, Pillow": lambda: sum(plain_pixels(path) is not None for path in paths),
        "  decoding alone, as here": lambda: sum(decode_image(path, "") is not None for path in paths),
        "A crop, mirror: plain": lambda: plain_batches(paths, plain_training),
        "A crop, mirror: ours": read("A crop, mirror: ours"),
        **({} if workers else {"  crop, mirror: ours, 8 bits": read_8_bits}),
        "B evaluation: plain": lambda: plain_batches(paths, plain_evaluation),
        "B evaluation: ours": read("B evaluation: ours"),
        "  the paper's whole recipe: ours": read("  the paper's whole recipe: ours"),
    }
    clock = time.perf_counter if workers else time.process_time
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = clock()
            count = way()
            assert count == len(paths)
            if number:  # the first starts workers and fills the disk's cache
                speeds[name].append(count / (clock() - began))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    alone = medians["  decoding alone, Pillow"], medians["  decoding alone, as here"]
    print(f"{'':36}images/s   of Pillow's decoding   of decoding as here   against plain")
    for name, speed in medians.items():
        other = medians.get(name.replace("ours", "plain")) if name.endswith("ours") else None
        ratio = f"{speed / other:12.2f}x" if other else ""
        print(
            f"{name:36}{speed:10.0f}   {100 * speed / alone[0]:19.0f} %   {100 * speed / alone[1]:17.0f} %   {ratio}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", nargs="+", default=["500x375", "2000x1500"], metavar="WxH")
    parser.add_argument("--folder", type=Path, help="folder of JPEGs to read instead")
    parser.add_argument("--images", type=int, default=256, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=0, help="of the loader; the plain ways have none")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    args = parser.parse_args()
    decoder, resizer = (
        name if importlib.util.find_spec(name) else "Pillow" for name in ("simplejpeg", "cykooz_resizer")
    )
    print(
        f"Pillow {PIL.__version__}, JPEGs decoded by {decoder}, crops resized by {resizer}, {args.workers} workers, "
        f"medians of {args.rounds} rounds"
    )
    if args.folder:
        paths = sorted(path for path in args.folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
        print(f"\n{min(len(paths), args.images)} of {args.folder}")
        measure(paths[: args.images], args.workers, args.rounds)
        return
    for size in args.size:
        width, height = map(int, size.split("x"))
        count = max(16, min(args.images, args.images * 500 * 375 // (width * height)))
        with tempfile.TemporaryDirectory() as folder:
            paths = write_images(Path(folder), (width, height), count)
            kib = statistics.mean(path.stat().st_size for path in paths) / 1024
            print(f"\n{count} of {width}×{height}, {kib:.0f} KiB each")
            measure(paths, args.workers, args.rounds)


if __name__ == "__main__":
    main()
