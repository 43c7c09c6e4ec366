"""Accuracy of several runs by the networks' size, and by the time that they were trained.

    python benchmarks/scaling.py runs/nano runs/nano_deep runs/micro --output runs/scaling.png

Takes folders of runs, best of one recipe, and prints a row of each: parameters, MACs of an image, epochs, minutes of
training, and the validation top-1 of the last epoch, of the weights' average where there is one, so that nothing is
chosen by it. Minutes are those of as many epochs of median length, because other work may have slowed some. The figure
has the last top-1 over parameters, and that of every epoch over minutes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from typing import Any

import cyclemlp
from cyclemlp.network import count_macs
from cyclemlp.report import markdown_table, read_json_lines
from cyclemlp.report.figures import line_style, saved_figure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--output", type=Path, required=True, help="the figure")
    args = parser.parse_args()
    runs = [facts(run) for run in args.runs]
    rows = [
        [
            run["name"],
            f"{run['parameters'] / 1e6:.2f} M",
            f"{run['macs'] / 1e6:.0f} M",
            len(run["top1"]),
            f"{run['minutes'][-1]:.0f}",
            f"{run['top1'][-1]:.2f}",
        ]
        for run in runs
    ]
    print(markdown_table(["network", "parameters", "MACs", "epochs", "minutes", "top-1 (%)"], rows))
    draw(runs, args.output)
    print(f"\n{args.output}")


def facts(run: Path) -> dict[str, Any]:
    """A run's network and its size; minutes and top-1 in % after each epoch."""
    model = cyclemlp.load_model(run)
    height, width = model.metadata.preprocessing.input_height, model.metadata.preprocessing.input_width
    epochs = {r["epoch"]: r for r in read_json_lines(run / "log.jsonl") if r["event"] == "epoch"}
    return {
        "name": f"{model.metadata.model}, {width}×{height}",
        "parameters": sum(p.size for p in model.parameters()),
        "macs": count_macs(model.config, height, width),
        "minutes": [epoch * median(r["epoch_seconds"] for r in epochs.values()) / 60 for epoch in epochs],
        "top1": [r.get("ema_top1", r["val_top1"]) for r in epochs.values()],
    }


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    with saved_figure(path, 9.0, 3.6) as figure:
        by_size, by_time = figure.subplots(1, 2)
        for i, run in enumerate(runs):
            style = line_style(i)
            by_size.plot(run["parameters"] / 1e6, run["top1"][-1], "o", color=style["color"])
            by_time.plot(run["minutes"], run["top1"], label=run["name"], **style)
        by_size.set(xlabel="parameters, millions", ylabel="validation top-1, %")
        by_size.set_xlim(left=0)
        by_time.set(xlabel="minutes of training", ylabel="validation top-1, %")
        by_time.set_ylim(bottom=min(run["top1"][-1] for run in runs) - 15)
        by_time.legend(fontsize="small")


if __name__ == "__main__":
    main()
