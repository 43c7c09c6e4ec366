"""Ablations at small scale: a block's branches, step size and gate, the augmentation, distillation.

    python benchmarks/ablations.py --output runs/ablations_digits
    python benchmarks/ablations.py --config RECIPE --data DIR --list FILE --val-data DIR --val-list FILE --output FOLDER

For each seed, some images of each class are drawn, and every variant is trained on them from random weights, with the
same recipe, steps, order and augmentation: variants differ in nothing but what their name says. What counts is the
top-1 of the last step's weights, or of their average where there is one, on the validation images, which nothing else
looks at. Prints tables in Markdown: mean over seeds with its 95 % interval by Student's t, and the same of the
differences from all three branches with step size 3, seed by seed. `--panels` chooses the questions.

Every run that ends is a line of OUTPUT/results.jsonl. Started again, the program does what is missing there, with more
seeds too. OUTPUT/ablations.png shows the figures (needs matplotlib).
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drawn import Mean, draw, shown, top1
from variants_figure import Variant, plot_variants

from cyclemlp import model_info
from cyclemlp.data import open_source
from cyclemlp.errors import ConfigError, CycleMLPError
from cyclemlp.report import JsonLines, markdown_table, read_json_lines
from cyclemlp.training import Recipe

CONFIG = Path(__file__).parents[1] / "configs" / "ablations" / "digits.yaml"


@dataclass(frozen=True)
class Choice:
    """A variant: what of the recipe differs from the base's, and its names in the tables and in the figure."""

    words: str
    short: str
    changes: tuple[tuple[str, Any], ...] = ()

    def recipe(self, base: Recipe) -> Recipe:
        """The base with the changes; those of `model.overrides` beside what it has."""
        changes = dict(self.changes)
        overrides = {**base.model.overrides, **changes.pop("model.overrides", {})}
        return base.updated({**changes, "model.overrides": overrides})


def _branches(branches: str, step: int, short: str) -> Choice:
    names = {"h": f"Cycle FC 1×{step}", "w": f"Cycle FC {step}×1", "c": "channel FC"}
    overrides = {"branches": list(branches), "step_size": step}
    return Choice(", ".join(names[b] for b in branches), short, (("model.overrides", overrides),))


def _with(words: str, **changes: Any) -> Choice:
    return Choice(words, words, tuple((key.replace("__", "."), value) for key, value in changes.items()))


#: Panel → what `ALL` is called in its figure, where that is not its own name.
OF_ALL = {"steps": "3", "gate": "gate", "training": "none of these", "distillation": "none"}
#: Of every panel it is the one that the others are compared with.
ALL = _branches("hwc", 3, "all three")
#: Panel → title, and its variants.
PANELS: dict[str, tuple[str, tuple[Choice, ...]]] = {
    "branches": (
        "Branches, step size 3",
        (_branches("hc", 3, "1×3, FC"), _branches("wc", 3, "3×1, FC"), _branches("hw", 3, "1×3, 3×1"), ALL),
    ),
    "steps": (
        "Step size, all branches",
        (_branches("hwc", 1, "1"), ALL, _branches("hwc", 5, "5"), _branches("hwc", 7, "7")),
    ),
    "gate": ("Gate", (Choice("no gate: the sum", "none", (("model.overrides", {"gate": False}),)), ALL)),
    "training": (
        "Training",
        (
            ALL,
            _with("mixup", augment__mixup=0.8),
            _with("cutmix", augment__cutmix=1.0),
            _with("RandAugment", augment__auto_augment="rand-m9-mstd0.5-inc1"),
            _with("erasing", augment__erasing_prob=0.25),
            _with("EMA", ema__decay=0.999),
        ),
    ),
    "distillation": (  # from the teacher that the recipe names
        "Distillation",
        (
            ALL,
            _with("soft distillation", distillation__kind="soft"),
            _with("hard distillation", distillation__kind="hard"),
        ),
    ),
}


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the results and the runs")
    parser.add_argument(
        "--config", type=Path, default=CONFIG, help="the recipe that all variants share (default: digits)"
    )
    parser.add_argument("--data", default="digits", help="digits, or a folder (default: digits)")
    parser.add_argument("--list", type=Path, help="list of training images in that folder")
    parser.add_argument("--val-data", help="validation images; default: --data")
    parser.add_argument("--val-list", type=Path)
    parser.add_argument("--labelled", type=int, default=5, help="images a class to train on (5)")
    parser.add_argument("--steps", type=int, default=200, help="of each run (200)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--panels", nargs="+", choices=list(PANELS), default=["branches", "steps"], help="(branches steps)"
    )
    args = parser.parse_args(words)
    try:
        return run(args)
    except CycleMLPError as error:
        print(f"ablations: error: {error}", file=sys.stderr)
        return 2


def run(args: argparse.Namespace) -> int:
    train_source = open_source(args.data, args.list, mode="train")
    val_data = args.val_data or args.data
    val_source = open_source(val_data, args.val_list, mode="val", num_classes=train_source.num_classes)
    base = Recipe.load(args.config).updated({"data.train": args.data, "run.checkpoint_epochs": 10**6})
    settings = {
        "recipe": base.to_dict(),
        "images": [len(train_source), len(val_source)],
        "labelled": args.labelled,
        "steps": args.steps,
    }

    args.output.mkdir(parents=True, exist_ok=True)
    results = args.output / "results.jsonl"
    records = read_json_lines(results) if results.exists() else []
    for number, record in enumerate(records, 1):
        if record["settings"] != settings:
            raise ConfigError(
                f"{results}:{number}: this run had other settings (recipe, images, --labelled or --steps) than those "
                "given now, so their results cannot stand in one table; choose another --output, or the same settings"
            )
    done = {(r["seed"], r["variant"]) for r in records}
    with JsonLines(results) as log:
        for seed in args.seeds:
            recipe = base.updated({"run.seed": seed})
            drawn = shown(train_source, draw(train_source, args.labelled, seed), recipe, args.steps)
            for choice in _choices(args):
                if (seed, choice.words) in done:
                    continue
                began = time.perf_counter()
                folder = args.output / f"seed_{seed}_{re.sub('[^a-z0-9]+', '_', choice.words.lower())}"
                accuracy = top1(choice.recipe(recipe), drawn, val_source, folder, force=True)
                record = {
                    "seed": seed,
                    "variant": choice.words,
                    "top1_percent": accuracy,
                    "seconds": round(time.perf_counter() - began, 1),
                    "settings": settings,
                }
                log.write(record)
                print(f"seed {seed}, {choice.words}: {accuracy:.2f} %", flush=True)
    report(args, base, read_json_lines(results), train_source.num_classes or 0)
    return 0


def report(args: argparse.Namespace, base: Recipe, records: list[dict[str, Any]], classes: int) -> None:
    """Print the tables and draw the plot of what results.jsonl holds of the given seeds."""
    scores = {
        choice.words: [
            r["top1_percent"]
            for seed in args.seeds
            for r in records
            if (r["seed"], r["variant"]) == (seed, choice.words)
        ]
        for choice in _choices(args)
    }
    train_images, val_images = records[0]["settings"]["images"]
    print(
        f"\n{args.labelled} images of each of {classes} classes drawn of {train_images} for training, "
        f"{val_images} validation images; {args.steps} steps of {base.data.batch_size}; {len(args.seeds)} seeds; "
        f"{len(scores) * len(args.seeds)} runs\n"
        "top-1 in %, mean ± half of the 95 % interval (Student's t)"
    )
    panels: dict[str, dict[str, Variant]] = {}
    for panel in args.panels:
        title, choices = PANELS[panel]
        rows, panels[title] = [], {}
        for choice in choices:
            mean = Mean(scores[choice.words])
            difference = Mean([a - b for a, b in zip(mean.values, scores[ALL.words], strict=True)])
            overrides = {**choice.recipe(base).model.overrides, "num_classes": classes}
            parameters = model_info(base.model.name, **overrides)["parameters"]
            rows.append([choice.words, parameters, str(mean), "" if choice is ALL else str(difference)])
            name = OF_ALL.get(panel, choice.short) if choice is ALL else choice.short
            panels[title][name] = Variant(mean.values, mean.mean, mean.half, marked=choice is ALL)
        print(f"\n{title}\n")
        print(
            markdown_table(
                ["variant", "parameters", "top-1", "minus all three of step 3, seed by seed"], rows
            )
        )
    title = f"{args.labelled} images a class; dots: runs of {len(args.seeds)} seeds, bars: 95 % intervals of the mean"
    path = plot_variants(panels, args.output / "ablations.png", title=title, label="top-1, %")
    print(f"\n{path}")


def _choices(args: argparse.Namespace) -> list[Choice]:
    """The variants of the panels, each once."""
    return list({choice.words: choice for panel in args.panels for choice in PANELS[panel][1]}.values())


if __name__ == "__main__":
    sys.exit(main())
