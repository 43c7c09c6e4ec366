"""Accuracy of several runs by the networks' size, and by the time that they were trained.

    python benchmarks/scaling.py runs/nano runs/nano_deep runs/micro --output runs/scaling.png
    python benchmarks/scaling.py runs/seed0 runs/seed1 runs/seed2 --test data/cifar10/test.tar --output runs/seeds.png

Takes folders of runs, best of one recipe. Runs whose recipes differ in the seed only share a row: parameters, MACs of
an image, epochs, seeds, minutes of training, and the validation top-1 of the last epoch, of the weights' average where
there is one, so that nothing is chosen by it; of several seeds the mean with its 95 % interval by Student's t. Minutes
are those of as many epochs of median length, because other work may have slowed some. The figure has the last top-1
over parameters, and that of every epoch over minutes.

With --test two columns have the top-1 on those images, as they are and averaged with their mirror images, by the best
weights on the validation images, or by the last where a run had none. This is for final models only, once.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from drawn import Mean, best_weights, evaluated

import cyclemlp
from cyclemlp.data import open_source
from cyclemlp.network import count_macs
from cyclemlp.network.variants import VARIANTS
from cyclemlp.report import markdown_table, read_json_lines
from cyclemlp.report.figures import line_style, saved_figure
from cyclemlp.run import LOG, RECIPE
from cyclemlp.text import counted
from cyclemlp.training import Recipe


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--test", help="test images: a tar or folder with a folder a class")
    parser.add_argument("--output", type=Path, required=True, help="the figure")
    args = parser.parse_args()
    by_recipe: dict[str, list[dict[str, Any]]] = {}
    for run in args.runs:
        recipe = Recipe.load(run / RECIPE).updated({"run.seed": 0}).to_yaml()
        by_recipe.setdefault(recipe, []).append(facts(run, args.test))
    rows = list(by_recipe.values())
    columns = ["network", "parameters", "MACs", "epochs", "seeds", "minutes", "validation top-1 (%)"]
    if args.test is not None:
        columns += ["test top-1 (%)", "with the mirror image (%)"]
    print(markdown_table(columns, [row_of(seeds) for seeds in rows]))
    draw(rows, args.output)
    print(f"\n{args.output}")


def facts(run: Path, test: str | None) -> dict[str, Any]:
    """A run's network and its size; minutes and validation top-1 in % after each epoch; its test top-1."""
    model = cyclemlp.load_model(best_weights(run))
    height, width = model.metadata.preprocessing.input_height, model.metadata.preprocessing.input_width
    epochs = {r["epoch"]: r for r in read_json_lines(run / LOG) if r["event"] == "epoch"}
    source = None if test is None else open_source(test, mode="val")
    return {
        "name": f"{variant_of(model)}, {width}×{height}",
        "parameters": sum(p.size for p in model.parameters()),
        "macs": count_macs(model.config, height, width),
        "minutes": [epoch * median(r["epoch_seconds"] for r in epochs.values()) / 60 for epoch in epochs],
        "top1": [r.get("ema_top1", r.get("val_top1")) for r in epochs.values()],
        "test": [] if source is None else [evaluated(model, source, tta).top1 for tta in ("none", "flip")],
    }


def variant_of(model: cyclemlp.CycleMLP) -> str:
    """The variant whose architecture it has, whatever overrides gave it that; otherwise its own name, as changed."""
    shape = replace(model.config, num_classes=0, drop_path_rate=0.0)
    for name, variant in VARIANTS.items():
        if replace(variant.config, num_classes=0, drop_path_rate=0.0) == shape:
            return name
    return f"{model.metadata.model}, changed"


def row_of(seeds: list[dict[str, Any]]) -> list[Any]:
    one = seeds[0]
    last = [run["top1"][-1] for run in seeds]
    return [
        one["name"],
        f"{one['parameters'] / 1e6:.2f} M",
        f"{one['macs'] / 1e6:.0f} M",
        len(one["top1"]),
        len(seeds),
        format(Mean([run["minutes"][-1] for run in seeds]).mean, ".0f"),
        "–" if None in last else Mean(last),
        *(Mean(list(figures)) for figures in zip(*(run["test"] for run in seeds), strict=True)),
    ]


def draw(rows: list[list[dict[str, Any]]], path: Path) -> None:
    """The runs that have validation images."""
    with saved_figure(path, 9.0, 3.6) as figure:
        by_size, by_time = figure.subplots(1, 2)
        last = []
        for i, seeds in enumerate(rows):
            style = line_style(i)
            label: str | None = f"{seeds[0]['name']}, {counted(len(seeds[0]['top1']), 'epoch')}"
            for run in seeds:
                if None in run["top1"]:
                    continue
                last.append(run["top1"][-1])
                by_size.plot(run["parameters"] / 1e6, run["top1"][-1], "o", color=style["color"])
                by_time.plot(run["minutes"], run["top1"], label=label, **style)
                label = None  # the seeds of a row have one line in the legend
        by_size.set(xlabel="parameters, millions", ylabel="validation top-1, %")
        by_size.set_xlim(left=0)
        by_time.set(xlabel="minutes of training", ylabel="validation top-1, %")
        by_time.set_ylim(bottom=min(last, default=15) - 15)
        by_time.legend(fontsize="small")


if __name__ == "__main__":
    main()
