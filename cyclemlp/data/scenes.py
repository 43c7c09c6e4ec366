"""Images to segment and to detect in that need no download: scanned digits set into scenes.

The digits are scikit-learn's real scans, enlarged, turned, coloured and laid over each other on gradients, textures
and scikit-learn's two photographs. Every scene is composed anew from its seed, split and number alone.

Shapes: H and W the scene's height and width.
"""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from cyclemlp.data.digits import Digits
from cyclemlp.errors import ConfigError
from cyclemlp.files import replacing_folder
from cyclemlp.report import class_colour, progress
from cyclemlp.text import counted

Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")
#: Words, since a class called "3" is easily taken for the class of number 3.
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

#: An object of which later ones would leave less than this share of its pixels is not hidden further.
LEAST_VISIBLE = 0.25
#: A scan has 8 × 8 pixels; with fewer, nobody can read it.
SMALLEST_SIZE = 8
#: Places, scans and sizes that are tried for one object before the scene is taken as full.
ATTEMPTS = 100
#: The ink's darkness (1 is the scan's darkest) that makes a pixel part of the digit, and how soft its edge is.
INK, SOFTNESS = 0.3, 0.2
#: Enlargement of the scan before it is turned and brought to its size.
FINE = 16
MOST_TURN_DEGREES = 20.0
#: Difference of brightness (0..255) between a digit and what lies under it: from faint to strong.
CONTRAST = (40.0, 150.0)

ORIGIN = "scenes composed by `cyclemlp data scenes`"  # by which a folder is known as one that may be replaced
CLASSES, IMAGES, LABELS, ANNOTATIONS = "classes.txt", "images", "labels", "annotations"
PREVIEW = "preview.png"
CONTENT = {CLASSES, IMAGES, LABELS, ANNOTATIONS, PREVIEW, *(f"{split}.txt" for split in SPLITS)}


@dataclass(frozen=True)
class SceneOptions:
    """What scenes are made of.

    Attributes:
        width, height: of each scene in pixels.
        digits: which digits occur; class 1 of the masks is the first of them.
        objects: fewest and most in a scene.
        sizes: smallest and largest longer side of a digit in pixels, before others hide parts of it.
        seed: of everything random.

    Raises:
        ConfigError: an impossible value; the message names the option of the command line.
    """

    width: int = 320
    height: int = 240
    digits: tuple[int, ...] = tuple(range(10))
    objects: tuple[int, int] = (3, 8)
    sizes: tuple[int, int] = (12, 120)
    seed: int = 0

    def __post_init__(self) -> None:
        if (
            not self.digits
            or len(set(self.digits)) < len(self.digits)
            or not set(self.digits) <= set(range(10))
        ):
            raise ConfigError(f"--digits: {list(self.digits)}; give some of 0 to 9, each once")
        _check_objects("--objects", self.objects)
        small, large = self.sizes
        if not SMALLEST_SIZE <= small <= large <= min(self.width, self.height):
            raise ConfigError(
                f"--min-size {small}, --max-size {large}: expected {SMALLEST_SIZE} <= smallest <= largest <= "
                f"{min(self.width, self.height)}, the shorter side of a scene of {self.width}x{self.height}"
            )
        if self.seed < 0:
            raise ConfigError(f"--seed is {self.seed}; give a whole number from 0")

    @property
    def classes(self) -> list[str]:
        """Names in the order of the masks' values: "background", then the digits'."""
        return ["background", *(DIGIT_NAMES[digit] for digit in self.digits)]


@dataclass
class SceneObject:
    """A digit in a scene.

    Attributes:
        label: its value in the mask, from 1.
        scan: the scan's name, as `Digits.name` gives it.
        size: the longer side in pixels of the whole digit.
        area: pixels of the whole digit.
        mask: bool [H, W], those of its pixels that nothing hides.
    """

    label: int
    scan: str
    size: int
    area: int
    mask: np.ndarray

    @property
    def visible(self) -> float:
        """Share of its pixels that nothing hides."""
        return int(self.mask.sum()) / self.area

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of the visible part; x1 and y1 are the first pixels outside."""
        rows, columns = (np.flatnonzero(self.mask.any(axis=axis)) for axis in (1, 0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


class Scene(NamedTuple):
    """An image, uint8 [H, W, 3], and what is in it, the hindmost first."""

    image: np.ndarray
    objects: list[SceneObject]

    @property
    def mask(self) -> np.ndarray:
        """uint8 [H, W]: 0 where there is no object, else its label."""
        mask = np.zeros(self.image.shape[:2], dtype=np.uint8)
        for one in self.objects:
            mask[one.mask] = one.label
        return mask


class Scenes:
    """Endless scenes of one split, composed when asked: `scenes[i]` is the same each time.

    Args:
        options: what they are made of.
        split: "train" takes the scans of `Digits("train")`, "val" those held out.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
        ConfigError: (when asked for a scene) the fewest objects do not fit into it.
    """

    def __init__(self, options: SceneOptions, split: Split) -> None:
        self.options, self.split = options, split
        self._digits = Digits(split)
        self._scans = {
            digit: [i for i in range(len(self._digits)) if self._digits.label(i) == digit]
            for digit in options.digits
        }

    def __getitem__(self, index: int) -> Scene:
        o = self.options
        rng = np.random.default_rng([o.seed, SPLITS.index(self.split), index])
        pixels = _background(rng, o.width, o.height)
        objects: list[SceneObject] = []
        wanted = int(rng.integers(o.objects[0], o.objects[1] + 1))
        while len(objects) < wanted and self._place(rng, pixels, objects):
            pass
        if len(objects) < o.objects[0]:
            raise ConfigError(
                f"only {counted(len(objects), 'digit')} of {o.sizes[0]} to {o.sizes[1]} pixels went into a scene of "
                f"{o.width}x{o.height}; ask for fewer (--objects), for smaller ones (--min-size, --max-size), or for "
                "a larger scene (--size)"
            )
        pixels += rng.normal(0, rng.uniform(0, 6), pixels.shape)  # grain, as of a camera
        return Scene(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), objects)

    def _place(self, rng: np.random.Generator, pixels: np.ndarray, objects: list[SceneObject]) -> bool:
        """Lay one more digit over the scene; False if no place was found."""
        height, width = pixels.shape[:2]
        smallest, largest = self.options.sizes
        for _ in range(ATTEMPTS):
            label = int(rng.integers(len(self.options.digits))) + 1
            index = int(rng.choice(self._scans[self.options.digits[label - 1]]))
            # As many from 12 to 24 pixels as from 60 to 120.
            size = round(float(np.exp(rng.uniform(np.log(smallest), np.log(largest)))))
            opaque, ink = _render(self._digits[index].image, size, rng.uniform(-1, 1) * MOST_TURN_DEGREES)
            h, w = opaque.shape
            if not smallest <= max(h, w) <= largest:
                continue
            y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            part = np.s_[y : y + h, x : x + w]
            whole = np.zeros((height, width), dtype=bool)
            whole[part] = opaque >= 0.5
            rest = [one.mask & ~whole for one in objects]
            if any(r.sum() < LEAST_VISIBLE * one.area for r, one in zip(rest, objects, strict=True)):
                continue
            for one, mask in zip(objects, rest, strict=True):
                one.mask = mask
            colour = _contrasting(rng, pixels[part][opaque >= 0.5].mean(axis=0))
            shade = (0.8 + 0.2 * ink)[..., None] * colour
            pixels[part] += opaque[..., None] * (shade - pixels[part])
            objects.append(SceneObject(label, self._digits.name(index), max(h, w), int(whole.sum()), whole))
            return True
        return False


def write_scenes(
    output: str | os.PathLike[str],
    options: SceneOptions,
    *,
    train: int,
    val: int,
    train_objects: tuple[int, int] | None = None,
    force: bool = False,
    show_progress: bool = True,
) -> dict[str, Counter[str]]:
    """Write scenes for PaddleSeg and, with the same images, in COCO's format for PaddleDetection.

    images/train_0001.jpg …     the scenes
    labels/train_0001.png …     masks: 0 background, then the digits in the options' order; with a palette for people
    train.txt, val.txt          a line `images/… labels/…` a scene
    classes.txt                 a line `value name` a class
    annotations/instances_train.json, instances_val.json    boxes, areas and masks (run lengths) of the visible parts

    Everything is written beside `output` first and moved there at the end: what stands there is whole. The same
    options give the same bytes with the same versions of NumPy, Pillow and scikit-learn.

    Args:
        output: the folder.
        options: what the scenes are made of.
        train, val: how many of each.
        train_objects: fewest and most in a scene for training; None: as in the options.
        force: replace a folder that this function wrote; no other is ever replaced.
        show_progress: a bar on stderr.

    Returns:
        Split → name of class → number of its objects.

    Raises:
        ConfigError: the folder holds something; see also `SceneOptions` and `Scenes`.
        MissingDependencyError: scikit-learn is not installed.
    """
    output = Path(output)
    if train_objects is not None:
        _check_objects("--train-objects", train_objects)
    by_split = {"train": replace(options, objects=train_objects or options.objects), "val": options}
    _check_output(output, force)
    counts: dict[str, Counter[str]] = {}
    with replacing_folder(output) as folder:
        for name in (IMAGES, LABELS, ANNOTATIONS):
            (folder / name).mkdir(parents=True)
        lines = [f"{value} {name}" for value, name in enumerate(options.classes)]
        (folder / CLASSES).write_text("\n".join(lines) + "\n", encoding="utf-8")
        for split, count in zip(SPLITS, (train, val), strict=True):
            counts[split] = _write_split(folder, Scenes(by_split[split], split), count, show_progress)
    return counts


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """COCO's uncompressed run lengths of a bool mask [H, W]: by columns, in turn of zeros and ones, zeros first."""
    flat = np.ravel(mask, order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff([0, *changes, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


# ---- writing


def _check_objects(option: str, objects: tuple[int, int]) -> None:
    least, most = objects
    if not 1 <= least <= most:
        raise ConfigError(f"{option}: {least}-{most}; give the fewest (at least 1) and the most, e.g. 3-8")


def _check_output(output: Path, force: bool) -> None:
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output} is a file; the output is a folder")
    names = {path.name for path in output.iterdir()} if output.exists() else set()
    if not names:
        return
    if not force:
        raise ConfigError(
            f"{output} is not empty; choose another --output, or --force to replace scenes by new ones"
        )
    others = sorted(names - CONTENT)
    if others or not _are_scenes(output):
        raise ConfigError(
            f"{output} holds {', '.join(others[:3]) or 'a data set'} that `cyclemlp data scenes` did not write, so "
            "--force does not replace it; choose another --output, or remove the folder yourself"
        )


def _are_scenes(folder: Path) -> bool:
    try:
        with _annotations(folder, "train").open(encoding="utf-8") as file:
            return json.load(file)["info"]["description"] == ORIGIN
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _annotations(folder: Path, split: str) -> Path:
    return folder / ANNOTATIONS / f"instances_{split}.json"


def _write_split(folder: Path, scenes: Scenes, count: int, show_progress: bool) -> Counter[str]:
    """Images, masks, list and annotations of one split; the number of objects of each class."""
    options, split = scenes.options, scenes.split
    digits = max(4, len(str(count)))
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    lines = []
    for i in progress(range(count), desc=f"{split} scenes", unit="scene", disable=not show_progress):
        scene, stem = scenes[i], f"{split}_{i + 1:0{digits}d}"
        Image.fromarray(scene.image).save(folder / IMAGES / f"{stem}.jpg", quality=92)
        mask = Image.fromarray(scene.mask)
        mask.putpalette(_mask_palette())
        mask.save(folder / LABELS / f"{stem}.png")
        lines.append(f"{IMAGES}/{stem}.jpg {LABELS}/{stem}.png\n")
        images.append(
            {"id": i + 1, "file_name": f"{stem}.jpg", "width": options.width, "height": options.height}
        )
        objects += [_annotation(one, i + 1, len(objects) + k) for k, one in enumerate(scene.objects, start=1)]
    (folder / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
    names = options.classes
    content = {
        "info": {"description": ORIGIN, "seed": options.seed},
        "images": images,
        "annotations": objects,
        "categories": [
            {"id": label, "name": name, "supercategory": "digit"} for label, name in enumerate(names) if label
        ],
    }
    _annotations(folder, split).write_text(
        json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8"
    )
    found = Counter(dict.fromkeys(names[1:], 0))
    found.update(names[annotation["category_id"]] for annotation in objects)
    return found


def _annotation(one: SceneObject, image: int, number: int) -> dict[str, Any]:
    """An object as COCO has it, and with it the scan, the whole digit's size, and the share that is visible."""
    x0, y0, x1, y1 = one.box
    return {
        "id": number,
        "image_id": image,
        "category_id": one.label,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": int(one.mask.sum()),
        "segmentation": encode_rle(one.mask),
        "iscrowd": 0,
        "scan": one.scan,
        "size": one.size,
        "visible": round(one.visible, 4),
    }


def _mask_palette() -> list[int]:
    """Of all 256 values, so that the file keeps 8 bits a pixel: black, the classes' colours, white for 255."""
    return [0, 0, 0, *(part for value in range(1, 255) for part in class_colour(value)), 255, 255, 255]


# ---- composing


def _render(scan: Image.Image, size: int, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """A scan enlarged and turned: opacity and ink in [0, 1], both [h, w]; the pixels of opacity 0.5 or more touch all
    four sides, and the longer is `size` pixels, or one more or less where the edge is soft."""
    padded = np.pad(np.asarray(scan, dtype=np.float32) / 255, 3)
    fine = Image.fromarray(padded).resize(
        [side * FINE for side in padded.shape[::-1]], Image.Resampling.BICUBIC
    )
    fine = fine.rotate(degrees, Image.Resampling.BICUBIC)
    ink = _cut(np.clip(np.asarray(fine), 0, 1), INK)
    for side in (size, size + 1, size + 2):  # smoothing may take the outermost pixel
        scale = side / max(ink.shape)
        shape = [max(1, round(length * scale)) for length in ink.shape[::-1]]
        small = np.asarray(Image.fromarray(ink).resize(shape, Image.Resampling.LANCZOS))
        cut = np.clip(_cut(small, INK), 0, 1)
        if max(cut.shape) >= size:
            break
    return np.clip((cut - INK) / SOFTNESS + 0.5, 0, 1), cut


def _cut(values: np.ndarray, least: float) -> np.ndarray:
    """The smallest part [h, w] of an array that holds all values from `least` on."""
    rows, columns = (np.flatnonzero((values >= least).any(axis=axis)) for axis in (1, 0))
    return values[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _contrasting(rng: np.random.Generator, under: np.ndarray) -> np.ndarray:
    """A colour whose brightness differs from that of `under` by a random amount, faint or strong."""
    weights = np.array([0.299, 0.587, 0.114])
    wanted = rng.uniform(*CONTRAST)
    colours = rng.uniform(0, 255, (200, 3))
    return colours[np.argmin(np.abs(np.abs((colours - under) @ weights) - wanted))]


def _background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """float64 [H, W, 3] in 0..255: a part of a photograph, clouds, a gradient or stripes."""
    kind = rng.choice(4, p=(0.4, 0.25, 0.2, 0.15))
    if kind == 0:
        return _photograph(rng, width, height)
    if kind == 1:
        level = _clouds(rng, width, height)
    else:
        ys, xs = np.mgrid[:height, :width]
        turn = rng.uniform(0, 2 * np.pi)
        level = xs * np.cos(turn) + ys * np.sin(turn)
        if kind == 3:
            level = np.sin(level * (2 * np.pi / rng.uniform(8, 60)) + 3 * _clouds(rng, width, height))
    level = ((level - level.min()) / (np.ptp(level) or 1))[..., None]
    # Half way to their grey: the colours of the world are rarely pure.
    colours = rng.uniform(0, 255, (2, 3))
    one, other = (colours + colours.mean(axis=1, keepdims=True)) / 2
    return one + level * (other - one)


def _clouds(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Smooth random values [H, W], coarse ones strongest."""
    level = np.zeros((height, width))
    for cells in (3, 6, 12, 24, 48):
        noise = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
        level += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC)) / cells
    return level


def _photograph(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A random part of one of the photographs, mirrored, lighter or darker at random."""
    photographs = _photographs()
    photograph = photographs[int(rng.integers(len(photographs)))]
    most = min(photograph.width / width, photograph.height / height)
    scale = most * rng.uniform(0.4, 1)
    w, h = width * scale, height * scale
    x, y = rng.uniform(0, photograph.width - w), rng.uniform(0, photograph.height - h)
    part = photograph.resize((width, height), Image.Resampling.BICUBIC, box=(x, y, x + w, y + h))
    pixels = np.asarray(part, dtype=np.float64)
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    return np.clip(pixels * rng.uniform(0.6, 1.2) + rng.uniform(-30, 30), 0, 255)


@functools.cache
def _photographs() -> Sequence[Image.Image]:
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(pixels) for pixels in load_sample_images().images]
