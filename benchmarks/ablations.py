"""The paper's ablations at small scale: which branches does a block need, and which step size?

    python benchmarks/ablations.py --output runs/ablations_digits
    python benchmarks/ablations.py --config RECIPE --data DIR --list FILE --val-data DIR --val-list FILE --output FOLDER

For each seed, some images of each class are drawn, and every variant is trained on them from random weights, with the
same recipe, steps, order and augmentation: variants differ in nothing but the branches and the step size. What counts
is the last step's top-1 on the validation images, which nothing else looks at. Prints tables in Markdown: mean over
seeds with its 95 % interval by Student's t, and the same of the differences from all three branches with step size 3,
seed by seed.

Every run that ends is a line of OUTPUT/results.jsonl. Started again, the program does what is missing there, with more
seeds too. OUTPUT/ablations.png shows the figures (needs matplotlib).
"""

from __future__ import annotations

import argparse
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
    """A variant: which branches, with which step size, and its name in the plot."""

    branches: str
    step_size: int
    short: str

    @property
    def overrides(self) -> dict[str, Any]:
        return {"branches": list(self.branches), "step_size": self.step_size}

    @property
    def words(self) -> str:
        s = self.step_size
        names = {"h": f"Cycle FC 1×{s}", "w": f"Cycle FC {s}×1", "c": "channel FC"}
        return ", ".join(names[branch] for branch in self.branches)


ALL = Choice("hwc", 3, "all three")
BRANCHES = (Choice("hc", 3, "1×3, FC"), Choice("wc", 3, "3×1, FC"), Choice("hw", 3, "1×3, 3×1"), ALL)
STEPS = (Choice("hwc", 1, "1"), ALL, Choice("hwc", 5, "5"), Choice("hwc", 7, "7"))
CHOICES = tuple(dict.fromkeys((*BRANCHES, *STEPS)))


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
    done = {(r["seed"], r["branches"], r["step_size"]) for r in records}
    with JsonLines(results) as log:
        for seed in args.seeds:
            recipe = base.updated({"run.seed": seed})
            drawn = shown(train_source, draw(train_source, args.labelled, seed), recipe, args.steps)
            for choice in CHOICES:
                if (seed, choice.branches, choice.step_size) in done:
                    continue
                began = time.perf_counter()
                overrides = {**recipe.model.overrides, **choice.overrides}
                folder = args.output / f"seed_{seed}_{choice.branches}_{choice.step_size}"
                accuracy = top1(
                    recipe.updated({"model.overrides": overrides}), drawn, val_source, folder, force=True
                )
                record = {
                    "seed": seed,
                    "branches": choice.branches,
                    "step_size": choice.step_size,
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
        choice: [r["top1_percent"] for seed in args.seeds for r in records if _is(r, seed, choice)]
        for choice in CHOICES
    }
    train_images, val_images = records[0]["settings"]["images"]
    print(
        f"\n{args.labelled} images of each of {classes} classes drawn of {train_images} for training, "
        f"{val_images} validation images; {args.steps} steps of {base.data.batch_size}; {len(args.seeds)} seeds; "
        f"{len(CHOICES) * len(args.seeds)} runs\n"
        "top-1 in %, mean ± half of the 95 % interval (Student's t)"
    )
    panels: dict[str, dict[str, Variant]] = {}
    for title, choices in (("Branches, step size 3", BRANCHES), ("Step size, all branches", STEPS)):
        rows, panels[title] = [], {}
        for choice in choices:
            mean = Mean(scores[choice])
            difference = Mean([a - b for a, b in zip(mean.values, scores[ALL], strict=True)])
            overrides = {**base.model.overrides, **choice.overrides, "num_classes": classes}
            parameters = model_info(base.model.name, **overrides)["parameters"]
            rows.append([choice.words, parameters, str(mean), "" if choice is ALL else str(difference)])
            name = "3" if choice is ALL and choices is STEPS else choice.short
            panels[title][name] = Variant(mean.values, mean.mean, mean.half, marked=choice is ALL)
        print(f"\n{title}\n")
        print(
            markdown_table(
                ["branches", "parameters", "top-1", "minus all three of step 3, seed by seed"], rows
            )
        )
    title = f"{args.labelled} images a class; dots: runs of {len(args.seeds)} seeds, bars: 95 % intervals of the mean"
    path = plot_variants(panels, args.output / "ablations.png", title=title, label="top-1, %")
    print(f"\n{path}")


def _is(record: dict[str, Any], seed: int, choice: Choice) -> bool:
    return (record["seed"], record["branches"], record["step_size"]) == (
        seed,
        choice.branches,
        choice.step_size,
    )


if __name__ == "__main__":
    sys.exit(main())
