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
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

import cyclemlp
from cyclemlp.cli.main import main as command_line
from cyclemlp.data.scenes import Scene, SceneOptions, Scenes
from cyclemlp.report import draw_detections, format_duration, format_table, image_sheet, overlay_masks
from cyclemlp.run import RECIPE

ROOT = Path(__file__).resolve().parents[1]
#: A quarter of the area of the scenes that `cyclemlp data scenes` composes by itself.
WIDTH, HEIGHT = 160, 120
ALL_DIGITS = SceneOptions(width=WIDTH, height=HEIGHT, objects=(2, 5), sizes=(16, 80))
#: More of them in scenes for training, from which as much is learnt in less time.
TRAIN_OBJECTS = "4-8"
#: Paddle's operators for the processor hardly use a second thread, so a second core gets a process of its own.
PROCESSES = min(2, os.cpu_count() or 1)
SHEET_SCENES = 8
#: Objects that are surer than this are drawn.
THRESHOLD = 0.5


@dataclass(frozen=True)
class Demo:
    """What differs between the two.

    Attributes:
        name: the word of the command line, "seg" or "det".
        scenes: what the scenes are made of.
        config: below the root.
        train: flags of the training command besides those for data and folders.
        figure, expected: name of the figure that is judged, and what it has to reach, in %; what it did reach is in
            docs/scenes.md.
        files: what is in the run's folder.
    """

    name: str
    scenes: SceneOptions
    config: str
    train: tuple[str, ...]
    figure: str
    expected: float
    files: tuple[tuple[str, str], ...]


DEMOS = {
    "seg": Demo(
        "seg",
        # To read a digit at each of its pixels is harder than in a box around it: three are learnt in minutes.
        replace(ALL_DIGITS, digits=(0, 1, 2), sizes=(20, 60)),
        "configs/seg/scenes.yaml",
        (
            *("--iters", "1600", "--save-interval", "400", "--lr", "1e-3"),
            *("--batch-size", str(4 // PROCESSES)),
            *("--set", "classes=[background, zero, one, two]", "--set", "loss.types.0.weight=[0.4, 1, 1, 1]"),
            *(f"--set={part}.num_classes=4" for part in ("model", "train_dataset", "val_dataset")),
        ),
        "mean IoU",
        40.0,
        (
            ("best.pdparams", "the best model"),
            ("checkpoints/", "the last ones, to go on from"),
            ("curves.png", "loss and mean IoU by step and by time"),
            ("predictions.png", "scenes, their true masks and those found"),
            ("log.jsonl", "figures of steps and evaluations"),
            ("recipe.yaml, README.md", "how to make this again"),
        ),
    ),
    "det": Demo(
        "det",
        ALL_DIGITS,
        "configs/det/scenes_mask_rcnn.yaml",
        (
            *("--epochs", "4", "--set", "LearningRate.base_lr=0.0015"),
            *("--set", f"TrainReader.batch_size={8 // PROCESSES}"),
            *("--set", f"TrainReader.sample_transforms.1.RandomResize.target_size=[[{HEIGHT}, {WIDTH}]]"),
            *("--set", f"EvalReader.sample_transforms.1.Resize.target_size=[{HEIGHT}, {WIDTH}]"),
            *("--set", f"TestReader.sample_transforms.1.Resize.target_size=[{HEIGHT}, {WIDTH}]"),
        ),
        "mask AP50",
        40.0,
        (
            ("best.pdparams", "the best model"),
            ("checkpoints/", "the last ones, to go on from"),
            ("curves.png", "losses and average precision by step and by time"),
            ("predictions.png", "scenes, their true objects and those found"),
            ("bbox.json, mask.json", "all that was found, in COCO's form"),
            ("log.jsonl", "figures of steps and evaluations"),
            ("recipe.yaml, README.md", "how to make this again"),
        ),
    ),
}


class Drawing(NamedTuple):
    """What draws a held-out scene: `truth(image, scene)` and, by what the model sees, `found(image, its file)`."""

    truth: Callable[[Image.Image, Scene], Image.Image]
    found: Callable[[Image.Image, Path], Image.Image]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", choices=DEMOS, help="segmentation or detection")
    parser.add_argument("--output", type=Path, help="default: runs/demo-seg or runs/demo-det; replaced")
    parser.add_argument("--scenes", type=Path, help="default: runs/demo-seg-scenes or …-det-scenes; replaced")
    parser.add_argument("--train-scenes", type=int, default=1500, metavar="N", help="default: %(default)s")
    parser.add_argument("--val-scenes", type=int, default=100, metavar="N", help="default: %(default)s")
    parser.add_argument("train_flags", nargs="*", metavar="FLAG", help="after --: more flags of the training")
    args = parser.parse_args()
    demo: Demo = DEMOS[args.demo]
    output: Path = args.output or Path(f"runs/demo-{demo.name}")
    scenes: Path = args.scenes or Path(f"runs/demo-{demo.name}-scenes")
    began = time.perf_counter()

    config = os.path.relpath(ROOT / demo.config)
    train = [
        "train",
        "--config",
        config,
        "--data",
        str(scenes),
        "--output",
        str(output),
        "--force",
        "--device=cpu",
    ]
    code = command_line(compose(demo.scenes, scenes, args.train_scenes, args.val_scenes)) or launch(
        [demo.name, *train, *demo.train, *args.train_flags], output.with_name(f"{output.name}-log")
    )
    if code:
        return code
    figure, drawing = (segmentation if demo.name == "seg" else detection)(output, demo.scenes.classes)
    draw_sheet(demo.scenes, scenes, output / "predictions.png", drawing)
    tell(demo, output, scenes, config, 100 * figure, time.perf_counter() - began)
    return 0 if 100 * figure >= demo.expected else 1


def compose(scenes: SceneOptions, folder: Path, train: int, val: int) -> list[str]:
    """The command that composes them."""
    numbers = {
        "--size": f"{scenes.height}x{scenes.width}",
        "--digits": ",".join(map(str, scenes.digits)),
        "--objects": f"{scenes.objects[0]}-{scenes.objects[1]}",
        "--train-objects": TRAIN_OBJECTS,
        "--min-size": scenes.sizes[0],
        "--max-size": scenes.sizes[1],
        "--train": train,
        "--val": val,
    }
    flags = [str(word) for pair in numbers.items() for word in pair]
    return ["data", "scenes", "--output", str(folder), "--force", *flags]


def launch(words: list[str], logs: Path) -> int:
    """Run `cyclemlp WORDS…` in `PROCESSES` processes of one thread each, and return its exit code."""
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(PROCESSES)]
    script = Path(cyclemlp.__file__).with_name("__main__.py")
    command = [sys.executable, *launcher, "--log_level=ERROR", "--log_dir", str(logs), str(script), *words]
    return subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False).returncode


def segmentation(output: Path, classes: list[str]) -> tuple[float, Drawing]:
    """Mean IoU of the run's best model, as `cyclemlp seg eval` measures it, and what draws scenes as it sees them."""
    from cyclemlp.dense.seg.config import open_config
    from cyclemlp.dense.seg.inference import Inference, Predictor, evaluate

    config, how = open_config(output / RECIPE, {}), Inference()
    result = evaluate(config, output, how, show_progress=False, say=quiet)
    predict = Predictor(config, output, how, say=quiet)
    return result.mean_iou, Drawing(
        lambda image, scene: overlay_masks(image, scene.mask, classes),
        lambda image, path: overlay_masks(image, predict(path), classes),
    )


def detection(output: Path, classes: list[str]) -> tuple[float, Drawing]:
    """Mask AP50 of the run's best model, as `cyclemlp det eval` measures it, and what draws scenes as it sees them."""
    from cyclemlp.dense.det.configuration import Configuration
    from cyclemlp.dense.det.engine import Evaluation, engine
    from cyclemlp.dense.det.predict import Detector

    config = Configuration.load(output / RECIPE)
    with engine(quiet):
        detector = Detector(config, output)
        figures = Evaluation(config, output)(detector.trainer, on_batch=lambda: None)

    names = classes[1:]

    def truth(image: Image.Image, scene: Scene) -> Image.Image:
        boxes, labels = [one.box for one in scene.objects], [one.label - 1 for one in scene.objects]
        masks = np.stack([one.mask for one in scene.objects])
        return draw_detections(image, boxes, labels, None, names, masks)

    def found(image: Image.Image, path: Path) -> Image.Image:
        with engine(quiet):
            seen = detector(np.asarray(image)).above(THRESHOLD)
        return draw_detections(image, seen.boxes, seen.labels, seen.scores, names, seen.masks)

    return figures.values["mask_ap50"] or 0.0, Drawing(truth, found)


def quiet(text: str) -> None:
    """Takes what is said while a model is loaded: the training said it already."""


def draw_sheet(options: SceneOptions, folder: Path, path: Path, drawing: Drawing) -> None:
    """Held-out scenes as they were composed, and beside each what the model sees in it."""
    scenes = Scenes(options, "val")
    images: list[Image.Image] = []
    captions: list[str] = []
    for i, line in enumerate((folder / "val.txt").read_text(encoding="utf-8").splitlines()[:SHEET_SCENES]):
        file = folder / line.split()[0]
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        images += [drawing.truth(image, scenes[i]), drawing.found(image, file)]
        captions += [f"{file.name}: the truth", "found"]
    image_sheet(images, captions=captions, columns=4).save(path)


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
  {command} eval {output}                                # class by class
  {command} predict {output} {scenes / "images" / "val_0001.jpg"} --output {output / "seen"}
  {command} train --config {config} --data YOUR/SCENES   # larger ones, of: cyclemlp data scenes --output YOUR/SCENES
  {command} train --config configs/{demo.name}/own_data.yaml   # your own images: see its head
""")


if __name__ == "__main__":
    raise SystemExit(main())
