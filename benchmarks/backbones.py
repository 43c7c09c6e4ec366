"""A CycleMLP, from random weights and from those of a classifier, beside a ResNet-18, at equal time of training.

    export OMP_NUM_THREADS=1
    python benchmarks/backbones.py cls --data PETS3 --pretrained runs/micro --minutes 4 --output runs/backbones
    python benchmarks/backbones.py seg --data PETS3 --pretrained runs/micro --minutes 10 --output runs/backbones
    python benchmarks/backbones.py det --data BCCD --pretrained runs/micro --minutes 10 --output runs/backbones

`cls` classifies photographs, `seg` and `det` train the same head on each backbone by its engine. PETS3 has lists
`cls_train.txt`, `cls_val.txt`, `train.txt` and `val.txt`; BCCD is as `configs/det/bccd.yaml` says. Without
`--pretrained` there are two sides. All sides of a task share recipe and seeds. A trial tells first how many steps go
into the time, so that each side's learning rate comes to its end in it; the time is that of training alone, on one
thread, one side after the other. What counts is the model of the last step, so that nothing is chosen on the images
that measure it.

Every run that ends is a line of OUTPUT/results.jsonl. Started again, the program does what is missing there. Prints a
table of the task: mean over seeds with its 95 % interval by Student's t, and the same of the differences from random
weights, seed by seed. OUTPUT/TASK.png has the curves of the first seed (`seg` and `det`), OUTPUT/backbones.png every
run of every task.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paddle
from drawn import Mean
from paddle import nn
from variants_figure import Variant, plot_variants

import cyclemlp
from cyclemlp.data import Loader, open_source, step_generator
from cyclemlp.errors import CycleMLPError
from cyclemlp.evaluation import as_callable, evaluate
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.report import JsonLines, markdown_table, plot_dense_curves, read_json_lines
from cyclemlp.text import counted
from cyclemlp.training import Recipe
from cyclemlp.training.augmentation import build_mixup
from cyclemlp.training.data import build_loaders
from cyclemlp.training.losses import SoftTargetCrossEntropy
from cyclemlp.training.optimizer import build_optimizer
from cyclemlp.training.schedule import Schedule

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
TRIAL_MINUTES = 0.5
#: The steps that a run gets of those that a trial at its speed would come to, so that it ends in time.
SHARE = 0.95
EVALUATIONS = 4

RANDOM, PRETRAINED, RESNET = "cyclemlp_micro", "cyclemlp_micro, pretrained", "ResNet-18"
RECIPE = "ablations/photographs.yaml"  # of `cls`
#: Engine → its configuration with a CycleMLP and with a ResNet-18, which share all but the backbone.
CONFIG = {
    "seg": ("seg/pets3.yaml", "seg/pets3_resnet18.yaml"),
    "det": ("det/bccd.yaml", "det/bccd_resnet18.yaml"),
}
#: Task → its title, and the figure that counts.
TITLE = {"cls": "Classification", "seg": "Segmentation", "det": "Detection"}
METRIC = {"cls": "top-1", "seg": "mean IoU", "det": "AP50"}
#: Engine → that figure in its log, and the key of the weights that a backbone starts from.
LOGGED = {"seg": "mean_iou", "det": "bbox_ap50"}
WEIGHTS_KEY = {"seg": "model.backbone.pretrained", "det": "CycleMLP_Micro.pretrained"}


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=tuple(METRIC))
    parser.add_argument("--data", required=True, help="folder of the data set")
    parser.add_argument(
        "--pretrained",
        type=Path,
        help="weights of cyclemlp_micro: a run's folder or a file (default: no such side)",
    )
    parser.add_argument(
        "--minutes", type=float, default=10, help="of training, each side (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, required=True, help="folder of the results and the runs")
    args = parser.parse_args(words)
    if os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("set OMP_NUM_THREADS=1: all sides are to have one thread")
    try:
        return run(args)
    except CycleMLPError as error:
        print(f"backbones: error: {error}", file=sys.stderr)
        return 2


def run(args: argparse.Namespace) -> int:
    sides = [RANDOM, *([PRETRAINED] if args.pretrained else []), RESNET]
    args.output.mkdir(parents=True, exist_ok=True)
    results = args.output / "results.jsonl"
    with JsonLines(results) as log:
        done = read_json_lines(results)
        for seed in args.seeds:
            for side in sides:
                if _found(done, args.task, side, [seed], args.minutes):
                    continue
                train = train_classifier if args.task == "cls" else train_dense
                facts = train(args, side, seed)
                log.write({"task": args.task, "side": side, "seed": seed, "minutes": args.minutes, **facts})
                print(f"seed {seed}, {side}: {METRIC[args.task]} {facts['value']:.3f}", flush=True)
    report(args, sides)
    return 0


def _found(
    results: list[dict[str, Any]], task: str, side: str, seeds: list[int], minutes: float
) -> list[dict[str, Any]]:
    """Those of a side, in the order of the seeds."""
    records = {r["seed"]: r for r in results if (r["task"], r["side"], r["minutes"]) == (task, side, minutes)}
    return [records[seed] for seed in seeds if seed in records]


# ---- a run


def train_dense(args: argparse.Namespace, side: str, seed: int) -> dict[str, Any]:
    """Train one side by its engine; its figures at the end."""
    config = CONFIGS / CONFIG[args.task][side == RESNET]
    folder = _folder(args, side, seed)
    trial = folder.with_name(folder.name + "-trial")
    command = [sys.executable, "-m", "cyclemlp", args.task, "train", "--no-progress", "--force"]
    command += ["--config", str(config), "--data", args.data, "--seed", str(seed)]
    if side == PRETRAINED:
        command += ["--set", f"{WEIGHTS_KEY[args.task]}={args.pretrained}"]
    limit = ["--max-minutes", str(TRIAL_MINUTES), "--no-eval", "--output", str(trial)]
    subprocess.run([*command, *limit], check=True)
    begin, *_, end = read_json_lines(trial / "log.jsonl")
    steps = math.floor(SHARE * end["step"] / end["seconds"] * 60 * args.minutes)
    length = ["--iters", str(steps), "--save-interval", str(math.ceil(steps / EVALUATIONS))]
    if args.task == "det":  # its schedule counts epochs
        epochs = max(1, steps // begin["steps_per_epoch"])
        length = ["--epochs", str(epochs), "--set", f"snapshot_epoch={math.ceil(epochs / EVALUATIONS)}"]
    length += ["--max-minutes", str(args.minutes), "--output", str(folder)]
    subprocess.run([*command, *length], check=True)
    records = read_json_lines(folder / "log.jsonl")
    last = [r for r in records if r["event"] == "evaluation"][-1]
    return {"value": last[LOGGED[args.task]], "steps": last["step"], "seconds": last["seconds"]}


def train_classifier(args: argparse.Namespace, side: str, seed: int) -> dict[str, Any]:
    """Train one side on photographs; its top-1 at the end, a share."""
    recipe = Recipe.load(CONFIGS / RECIPE).updated({"run.seed": seed, "data.train": args.data})
    train_source = open_source(args.data, Path(args.data, "cls_train.txt"), mode="train")
    count = train_source.num_classes or 0
    val_source = open_source(args.data, Path(args.data, "cls_val.txt"), mode="val", num_classes=count)
    preprocessing = recipe.data.preprocessing.applied_to(Preprocessing())
    loader, val_loader = build_loaders(recipe, preprocessing, train_source, val_source)
    assert val_loader is not None

    def begin() -> nn.Layer:
        paddle.seed(seed)
        return _classifier(side, args.pretrained, count)

    steps, seconds = fit(recipe, begin(), loader, lambda steps, seconds: seconds / (60 * TRIAL_MINUTES))
    planned, limit = math.floor(SHARE * steps / seconds * 60 * args.minutes), 60 * args.minutes
    model = begin()
    steps, seconds = fit(
        recipe, model, loader, lambda steps, seconds: steps / planned if seconds < limit else 1.0
    )
    model.eval()
    top1 = evaluate(as_callable(model), val_loader, progress=False).top1
    return {"value": top1 / 100, "steps": steps, "seconds": seconds}


def fit(
    recipe: Recipe, model: nn.Layer, loader: Loader, done: Callable[[int, float], float]
) -> tuple[int, float]:
    """Train until `done`, of steps and seconds, gives 1, with the recipe's learning rate at that share of its epochs.

    Returns:
        Steps and seconds.
    """
    schedule, seed = Schedule.from_recipe(recipe), recipe.run.seed
    optimizer, loss_fn = build_optimizer(model, recipe.optimizer, lr=0.0), SoftTargetCrossEntropy()
    mixup = build_mixup(recipe.augment, loader.source.num_classes or 0, recipe.label_smoothing)
    steps, began = 0, time.perf_counter()
    model.train()
    for epoch in itertools.count():
        loader.set_epoch(epoch)
        for step, batch in enumerate(loader):
            share = done(steps, seconds := time.perf_counter() - began)
            if share >= 1:
                return steps, seconds
            optimizer.set_lr(schedule.at(share * recipe.run.epochs))
            images, targets = mixup(batch.images, batch.labels, step_generator(seed, epoch, step))
            loss = loss_fn(model(images), targets)
            if not math.isfinite(value := float(loss)):
                raise FloatingPointError(f"seed {seed}, step {steps + 1}: the loss is {value}")
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            steps += 1
    raise AssertionError("an endless loop ended")


def _classifier(side: str, weights: Path | None, classes: int) -> nn.Layer:
    if side != RESNET:
        return cyclemlp.create_model(
            "cyclemlp_micro", weights if side == PRETRAINED else None, num_classes=classes
        )
    return paddle.vision.models.resnet18(num_classes=classes)


def _folder(args: argparse.Namespace, side: str, seed: int) -> Path:
    return Path(args.output, f"{args.task}_{seed}_{side.replace(', ', '_')}")


# ---- what came of them


def report(args: argparse.Namespace, sides: list[str]) -> None:
    results = read_json_lines(args.output / "results.jsonl")
    metric = METRIC[args.task]
    found = {side: _found(results, args.task, side, args.seeds, args.minutes) for side in sides}
    rows = []
    for side in sides:
        values = [r["value"] for r in found[side]]
        differences = [value - r["value"] for value, r in zip(values, found[RANDOM], strict=True)]
        less = "" if side == RANDOM else f"{Mean(differences):.3f}"
        minutes = sum(r["seconds"] for r in found[side]) / len(values) / 60
        steps = round(sum(r["steps"] for r in found[side]) / len(values))
        rows.append([side, f"{minutes:.1f}", steps, f"{Mean(values):.3f}", less])
    print(
        f"\n{TITLE[args.task]}, {counted(len(args.seeds), 'seed')}; mean ± half of the 95 % interval (Student's t)\n"
    )
    print(markdown_table(["backbone", "minutes", "steps", metric, f"minus {RANDOM}, seed by seed"], rows))
    if args.task != "cls":
        curves = {side: read_json_lines(_folder(args, side, args.seeds[0]) / "log.jsonl") for side in sides}
        title = f"The same head and recipe, {args.minutes:g} minutes of training each, seed {args.seeds[0]}"
        plot_dense_curves(curves, args.output / f"{args.task}.png", metrics=[LOGGED[args.task]], title=title)
    panels: dict[str, dict[str, Variant]] = {}
    short = {RANDOM: "random", PRETRAINED: "pretrained", RESNET: "ResNet-18"}
    minutes_of = {r["task"]: r["minutes"] for r in results}  # the last ones
    for task, minutes in minutes_of.items():
        for side, name in short.items():
            if values := [r["value"] for r in _found(results, task, side, args.seeds, minutes)]:
                mean = Mean(values)
                panel = panels.setdefault(f"{TITLE[task]}, {METRIC[task]}", {})
                panel[name] = Variant(values, mean.mean, mean.half, marked=side == PRETRAINED)
    title = "dots: runs, bars: 95 % intervals of the mean"
    print(f"\n{plot_variants(panels, args.output / 'backbones.png', title=title, label='share')}")


if __name__ == "__main__":
    raise SystemExit(main())
