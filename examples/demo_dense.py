"""A small CycleMLP learns to segment or to detect: scenes composed, trained, evaluated and drawn in a few minutes.

`make demo-seg` and `make demo-det` run this. Nothing here is special to the demo: it is `cyclemlp data scenes`, then
`cyclemlp seg train` with configs/seg/scenes.yaml (Semantic FPN) or `cyclemlp det train` with
configs/det/scenes_mask_rcnn.yaml (Mask R-CNN), on scenes small enough for two processor cores. Exit code: 0, or 1 if
less than expected was learnt.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cyclemlp.cli.main import main as command_line
from cyclemlp.data.scenes import SceneOptions, Scenes
from cyclemlp.report import draw_detections, format_duration, format_table, overlay_masks, picture_sheet

ROOT = Path(__file__).resolve().parents[1]
#: A quarter of the area of the scenes that `cyclemlp data scenes` composes by itself.
WIDTH, HEIGHT = 160, 120
OPTIONS = SceneOptions(width=WIDTH, height=HEIGHT, objects=(2, 5), sizes=(16, 80))
SHEET_SCENES = 8
#: Objects that are surer than this are drawn.
THRESHOLD = 0.5


@dataclass(frozen=True)
class Demo:
    """What differs between the two.

    Attributes:
        name: the word of the command line, "seg" or "det".
        config: below the root.
        train: flags of the training command besides those for data and folders.
        figure, expected: name of the figure that is judged, and what it has to reach, in %; seeds 0 to 2 reached
            more, see docs/scenes.md.
        files: what is in the run's folder.
    """

    name: str
    config: str
    train: tuple[str, ...]
    figure: str
    expected: float
    files: tuple[tuple[str, str], ...]


DEMOS = {
    "seg": Demo(
        "seg",
        "configs/seg/scenes.yaml",
        (),
        "mean IoU",
        50.0,
        (
            ("best_model/", "the best model"),
            ("iter_…/", "the last checkpoints, to go on from"),
            ("curves.png", "loss and mean IoU by step and by time"),
            ("predictions.png", "scenes, their true masks and those found"),
            ("log.jsonl", "figures of steps and evaluations"),
            ("config.yaml", "the whole configuration"),
        ),
    ),
    "det": Demo(
        "det",
        "configs/det/scenes_mask_rcnn.yaml",
        (
            *("--epochs", "4", "--set", "TrainReader.batch_size=8", "--set", "LearningRate.base_lr=0.0015"),
            *("--set", f"TrainReader.sample_transforms.1.RandomResize.target_size=[[{HEIGHT}, {WIDTH}]]"),
            *("--set", f"EvalReader.sample_transforms.1.Resize.target_size=[{HEIGHT}, {WIDTH}]"),
            *("--set", f"TestReader.sample_transforms.1.Resize.target_size=[{HEIGHT}, {WIDTH}]"),
        ),
        "mask AP50",
        50.0,
        (
            ("best_model.pdparams", "the best model"),
            ("epoch_….pdparams", "the last checkpoints, to go on from"),
            ("curves.png", "losses and average precision by step and by time"),
            ("predictions.png", "scenes, their true objects and those found"),
            ("bbox.json, mask.json", "all that was found, in COCO's form"),
            ("log.jsonl", "figures of steps and evaluations"),
            ("config.yaml", "the whole configuration"),
        ),
    ),
}

Draw = Callable[[Image.Image, Path], Image.Image]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", choices=DEMOS, help="segmentation or detection")
    parser.add_argument("--output", type=Path, help="default: runs/demo-seg or runs/demo-det; replaced")
    parser.add_argument("--scenes", type=Path, default=Path("runs/demo-scenes"), help="default: %(default)s")
    parser.add_argument("--train-scenes", type=int, default=2000, metavar="N", help="default: %(default)s")
    parser.add_argument("--val-scenes", type=int, default=100, metavar="N", help="default: %(default)s")
    parser.add_argument("train_flags", nargs="*", metavar="FLAG", help="after --: more flags of the training")
    args = parser.parse_args()
    demo: Demo = DEMOS[args.demo]
    output: Path = args.output or Path(f"runs/demo-{demo.name}")
    began = time.perf_counter()

    config = os.path.relpath(ROOT / demo.config)
    train = [demo.name, "train", "--config", config, "--data", str(args.scenes), "--output", str(output)]
    code = command_line(compose(args.scenes, args.train_scenes, args.val_scenes)) or command_line(
        [*train, "--force", *demo.train, *args.train_flags]
    )
    if code:
        return code
    evaluate = segmentation if demo.name == "seg" else detection
    figure, draw = evaluate(output)
    draw_sheet(args.scenes, output / "predictions.png", draw)
    tell(demo, output, args.scenes, config, 100 * figure, time.perf_counter() - began)
    return 0 if 100 * figure >= demo.expected else 1


def compose(folder: Path, train: int, val: int) -> list[str]:
    """The command that composes the scenes of `OPTIONS`."""
    o = OPTIONS
    numbers = {
        "--size": f"{o.width}x{o.height}",
        "--objects": f"{o.objects[0]}-{o.objects[1]}",
        "--min-size": o.sizes[0],
        "--max-size": o.sizes[1],
        "--train": train,
        "--val": val,
    }
    flags = [str(word) for pair in numbers.items() for word in pair]
    return ["data", "scenes", "--output", str(folder), "--force", *flags]


def segmentation(output: Path) -> tuple[float, Draw]:
    """Mean IoU of the run's best model, as `cyclemlp seg eval` measures it, and what draws a scene as it sees it."""
    from cyclemlp.dense.seg.config import open_config
    from cyclemlp.dense.seg.inference import Inference, Predictor, evaluate

    config, how = open_config(output / "config.yaml", {}), Inference()
    result = evaluate(config, output, how, show_progress=False, say=quiet)
    predict = Predictor(config, output, how, say=quiet)
    return result.mean_iou, lambda image, path: overlay_masks(image, predict(path), OPTIONS.classes)


def detection(output: Path) -> tuple[float, Draw]:
    """Mask AP50 of the run's best model, as `cyclemlp det eval` measures it, and what draws a scene as it sees it."""
    from cyclemlp.dense.det.configuration import Configuration
    from cyclemlp.dense.det.engine import Evaluation, engine, find_weights
    from cyclemlp.dense.det.predict import Detector

    with engine(quiet):
        detector = Detector(config := Configuration.load(output / "config.yaml"), find_weights(output))
        figures = Evaluation(config, output)(detector.trainer, on_batch=lambda: None)

    def draw(image: Image.Image, path: Path) -> Image.Image:
        with engine(quiet):
            found = detector(np.asarray(image)).above(THRESHOLD)
        return draw_detections(
            image, found.boxes, found.labels, found.scores, OPTIONS.classes[1:], found.masks
        )

    return figures.values["mask_ap50"] or 0.0, draw


def quiet(text: str) -> None:
    """Takes what is said while a model is loaded: the training said it already."""


def draw_sheet(folder: Path, path: Path, draw: Draw) -> None:
    """Held-out scenes as they were composed, and beside each what the model sees in it."""
    scenes = Scenes(OPTIONS, "val")
    pictures: list[Image.Image] = []
    captions: list[str] = []
    for i in range(min(SHEET_SCENES, len(list((folder / "images").glob("val_*.jpg"))))):
        objects = scenes[i].objects
        file = folder / "images" / f"val_{i + 1:04d}.jpg"
        with Image.open(file) as image:
            picture = image.convert("RGB")
        boxes, labels = [one.box for one in objects], [one.label - 1 for one in objects]
        masks = np.stack([one.mask for one in objects])
        pictures.append(draw_detections(picture, boxes, labels, None, OPTIONS.classes[1:], masks))
        pictures.append(draw(picture, file))
        captions += [f"{file.name}: the truth", "found"]
    picture_sheet(pictures, captions=captions, columns=4).save(path)


def tell(demo: Demo, output: Path, scenes: Path, config: str, figure: float, seconds: float) -> None:
    """Where everything is, and what to try next."""
    # The command of the environment that this runs in, unless it is on the path.
    here = Path(sys.executable).with_name("cyclemlp")
    on_path = shutil.which("cyclemlp") == str(here) or not here.exists()
    command = f"{'cyclemlp' if on_path else os.path.relpath(here)} {demo.name}"
    print(
        f"\nheld-out scenes: {demo.figure} {figure:.1f} % (expected: at least {demo.expected:g} %),", end=" "
    )
    print(f"in {format_duration(seconds)}\n")
    print(format_table([f"in {output}/", ""], demo.files))
    print(f"""
try next:
  {command} eval --weights {output}                      # class by class
  {command} predict {scenes / "images" / "val_0001.jpg"} --weights {output} --output {output / "seen"}
  {command} train --config {config} --data YOUR/SCENES   # larger ones, of: cyclemlp data scenes --output YOUR/SCENES
  {command} train --config configs/{demo.name}/own_data.yaml   # your own pictures: see its head
""")


if __name__ == "__main__":
    raise SystemExit(main())
