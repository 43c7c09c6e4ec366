"""A CycleMLP against a ResNet-18 as backbone of the same head, from random weights, at equal time of training.

    python benchmarks/dense.py seg --data PETS3 --minutes 15 --output runs/dense-seg
    python benchmarks/dense.py det --data BCCD --minutes 25 --output runs/dense-det

Each side is trained by its engine with the configuration below. A trial of half a minute first tells how many steps
go into the time, so that both sides' learning rates come to their end in it; the time is that of training alone,
evaluations apart. One thread a process (`OMP_NUM_THREADS=1`), one side after the other. Prints a table, and writes
`comparison.png` and `comparison.md` into the output folder. A side whose run is complete is not trained again.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
from pathlib import Path

from cyclemlp.report import format_table, plot_dense_curves, read_json_lines

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
TRIAL_MINUTES = 0.5
EVALUATIONS = 8

#: Task → what is compared: side → configuration.
SIDES = {
    "seg": {"CycleMLP_Micro": "seg/pets3.yaml", "ResNet18_vd": "seg/pets3_resnet18.yaml"},
    "det": {"CycleMLP_Micro": "det/bccd.yaml", "ResNet-18": "det/bccd_resnet18.yaml"},
}
#: Task → figures of an evaluation to show; the first decides which evaluation is the best.
METRICS = {"seg": ("mean_iou", "pixel_accuracy"), "det": ("bbox_ap50", "bbox_ap")}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=tuple(SIDES))
    parser.add_argument("--data", required=True, help="folder of the data set")
    parser.add_argument(
        "--minutes", type=float, default=15, help="of training, each side (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs and the comparison")
    parser.add_argument("--only", choices=("first", "second"), help="train one side, compare later")
    args = parser.parse_args()

    sides = list(SIDES[args.task].items())
    if args.only:
        sides = [sides[args.only == "second"]]
    for side, config in sides:
        train(args.task, CONFIGS / config, args.data, args.minutes, args.output / side)
    compare(args.task, args.minutes, {side: args.output / side for side, _ in sides})
    return 0


def train(task: str, config: Path, data: str, minutes: float, run: Path) -> None:
    """Train one side for that long, unless it has been."""
    if run.exists() and any(r["event"] == "end" for r in read_json_lines(run / "log.jsonl")):
        print(f"{run} is complete")
        return
    trial = run.with_name(run.name + "-trial")
    command = [sys.executable, "-m", "cyclemlp", task, "train", "--config", str(config), "--data", data]
    limit = ["--max-minutes", str(TRIAL_MINUTES), "--no-eval", "--force", "--output", str(trial)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *limit], env=environment, check=True)
    end = read_json_lines(trial / "log.jsonl")[-1]
    steps = math.floor(end["step"] / end["seconds"] * 60 * minutes)
    length = ["--iters", str(steps), "--save-interval", str(math.ceil(steps / EVALUATIONS))]
    if task == "det":  # its schedule counts epochs
        begin = read_json_lines(trial / "log.jsonl")[0]
        epochs = max(1, steps // begin["steps_per_epoch"])
        length = ["--epochs", str(epochs), "--set", f"snapshot_epoch={math.ceil(epochs / EVALUATIONS)}"]
    subprocess.run(
        [*command, *length, "--max-minutes", str(minutes), "--output", str(run)], env=environment, check=True
    )


def compare(task: str, minutes: float, runs: dict[str, Path]) -> None:
    """Print and write the table, and draw the curves."""
    metrics, rows, curves = METRICS[task], [], {}
    for side, run in runs.items():
        records = read_json_lines(run / "log.jsonl")
        curves[side] = records
        evaluations = [r for r in records if r["event"] == "evaluation"]
        best = max(evaluations, key=lambda r: r[metrics[0]])
        at_end = [f"{evaluations[-1][m]:.3f}" for m in metrics]
        rows.append(
            [
                side,
                f"{records[-1]['seconds'] / 60:.1f}",
                str(records[-1]["step"]),
                f"{best[metrics[0]]:.3f}",
                *at_end,
            ]
        )
    header = ["backbone", "minutes", "steps", f"best {metrics[0]}", *(f"{m} at the end" for m in metrics)]
    table = format_table(header, rows)
    folder = next(iter(runs.values())).parent
    print(table)
    (folder / "comparison.md").write_text(table + "\n", encoding="utf-8")
    title = f"The same head and recipe on two backbones, {minutes:g} minutes of training each"
    plot_dense_curves(curves, folder / "comparison.png", metrics=metrics, title=title)


if __name__ == "__main__":
    raise SystemExit(main())
