"""A CycleMLP learns handwritten digits: trained, evaluated and drawn in a few minutes. `make demo` runs this.

Nothing here is special to the demo: it is `cyclemlp train` with configs/digits.yaml, then the same functions that
`cyclemlp eval` uses, and the plots. Exit code: 0, or 1 if fewer than 97 % of the held-out digits were recognised.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np

import cyclemlp
from cyclemlp.cli.main import main as command_line
from cyclemlp.data import Digits, build_loader, evaluation_transform
from cyclemlp.evaluation import EvaluationResult, as_callable, confusion_matrix, evaluate, plot_confusion
from cyclemlp.report import format_duration, format_table, plot_predictions

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "digits.yaml"
EXPECTED_TOP1 = 97.0  # % of the held-out fifth; seeds 0 to 2 reached more, see docs/training.md
SHEET_IMAGES = 48


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=Path("runs/demo"), help="default: %(default)s; replaced"
    )
    parser.add_argument(
        "train_flags", nargs="*", metavar="FLAG", help="after --: more flags of `cyclemlp train`"
    )
    args = parser.parse_args()
    began = time.perf_counter()

    config = os.path.relpath(CONFIG)
    train = ["train", "--config", config, "--output", str(args.output), "--force", *args.train_flags]
    code = command_line(train)
    if code:
        return code

    model = cyclemlp.load_model(args.output)  # the best epoch's, as anybody would load it
    digits = Digits("val")
    loader = build_loader(digits, evaluation_transform(model.metadata.preprocessing), batch_size=64)
    result = evaluate(as_callable(model), loader, keep=True, progress=False)
    draw(args.output, digits, model.metadata.classes, result)
    tell(args.output, config, result, time.perf_counter() - began)
    return 0 if result.top1 >= EXPECTED_TOP1 else 1


def draw(output: Path, digits: Digits, classes: list[str], result: EvaluationResult) -> None:
    """Confusion matrix, and a sheet of predictions on which the wrong ones come first."""
    logits = result.logits.astype(np.float64)
    probabilities = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    predicted = logits.argmax(axis=1)
    matrix = confusion_matrix(result.labels, predicted, len(classes))
    plot_confusion(matrix, classes, output / "confusion.png", title="Held-out digits")
    shown = np.argsort(predicted == result.labels, kind="stable")[:SHEET_IMAGES]
    plot_predictions(
        [digits[int(result.indices[i])].image for i in shown],
        [classes[predicted[i]] for i in shown],
        [probabilities[i].max() for i in shown],
        output / "predictions.png",
        true=[classes[result.labels[i]] for i in shown],
        title="Held-out digits, wrong ones first: predicted class, its probability, true class",
    )
    digits[int(result.indices[shown[-1]])].image.save(output / "digit.png")


def tell(output: Path, config: str, result: EvaluationResult, seconds: float) -> None:
    """Where everything is, and what to try next."""
    files = [
        ("best.safetensors", "the best model, with its preprocessing and class names"),
        ("checkpoints/", "the last ones, to go on from"),
        ("curves.png", "loss, accuracy and learning rate by epoch"),
        ("confusion.png", "which digits are taken for which"),
        ("predictions.png", "images, what the network said, and the truth"),
        ("log.jsonl", "figures of every epoch"),
        ("recipe.yaml, README.md", "how to make this again"),
    ]
    # The command of the environment that this runs in, unless it is on the path.
    here = Path(sys.executable).with_name("cyclemlp")
    on_path = shutil.which("cyclemlp") == str(here) or not here.exists()
    command = "cyclemlp" if on_path else os.path.relpath(here)
    right = round(result.images * result.top1 / 100)
    print(f"\n{right} of {result.images} held-out digits recognised: top-1 {result.top1:.2f} %", end=" ")
    print(f"(expected: at least {EXPECTED_TOP1:g} %), in {format_duration(seconds)}\n")
    print(format_table([f"in {output}/", ""], files))
    print(f"""
try next:
  {command} eval {output} --data digits
  {command} predict {output} {output / "digit.png"}
  {command} train --config {config} --model cyclemlp_micro --set data.preprocessing.input_size=32 --epochs 10
  {command} train --model cyclemlp_micro --data YOUR/IMAGES --val-data YOUR/OTHERS   # one folder a class
  {command} info
""")


if __name__ == "__main__":
    raise SystemExit(main())
