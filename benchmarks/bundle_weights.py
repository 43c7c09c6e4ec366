"""Puts the best weights of a run into the package, in float16, with what they reach.

    python benchmarks/bundle_weights.py runs/nano --tag cifar10 --recipe configs/cifar10/cyclemlp_nano.yaml \\
        --test data/cifar10/test.tar

Writes cyclemlp/weights/bundled/VARIANT.TAG.safetensors, whose metadata name the recipe, the epochs and the results that
the model card (`python docs/make_model_cards.py`) and the tests state. The run's validation images, or its training
images if it was trained on all there are, are evaluated with the weights as they were trained and as they are written;
if the two differ by more than --tolerance images, nothing is written. --test is for a final model only, once:
everything is chosen on validation images.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from drawn import best_weights, evaluated

from cyclemlp import load_model, save_model
from cyclemlp.data import Source, open_source
from cyclemlp.network import CycleMLP
from cyclemlp.report import read_json_lines
from cyclemlp.run import LOG, RECIPE
from cyclemlp.training import Recipe
from cyclemlp.training.data import open_sources
from cyclemlp.weights import read_weights, write_weights
from cyclemlp.weights.pretrained import BUNDLED


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run of `cyclemlp train`")
    parser.add_argument("--tag", required=True, help="the weights' name, after what they were trained on")
    parser.add_argument("--test", help="test images: a tar or folder with a folder a class")
    parser.add_argument("--recipe", required=True, help="the configuration, as the card is to name it")
    parser.add_argument("--note", default="", help="a sentence on the training, for the card")
    parser.add_argument("--tolerance", type=int, default=2, help="images (2)")
    parser.add_argument("--folder", type=Path, default=BUNDLED, help="where to write (the package's)")
    args = parser.parse_args()
    weights = best_weights(args.run)
    model = load_model(weights)
    if model.metadata.classes is None:
        print(f"{args.run}: its model has no class names", file=sys.stderr)
        return 2
    kept = read_weights(weights).metadata
    recipe = Recipe.load(args.run / RECIPE)
    trained_on, validation = open_sources(recipe.data, model.metadata.classes)
    epochs = {r["epoch"] for r in read_json_lines(args.run / LOG) if r.get("event") == "epoch"}
    facts: dict[str, Any] = {
        "recipe": args.recipe,
        "note": args.note,
        "epochs": len(epochs),
        "epoch": kept["epoch"],
    }
    with tempfile.TemporaryDirectory() as scratch:
        whole, half = Path(scratch, "whole.safetensors"), Path(scratch, "half.safetensors")
        save_model(model, whole)
        file = read_weights(whole)
        tensors = {name: tensor.astype(np.float16) for name, tensor in file.tensors.items()}
        write_weights(half, tensors, metadata=file.metadata)
        written = load_model(half)
    part, compared = ("training", trained_on) if validation is None else ("validation", validation)
    (as_trained, _), (right, images) = (count_right(m, compared) for m in (model, written))
    print(f"{part}: {as_trained} of {images} right as trained, {right} in float16")
    if abs(right - as_trained) > args.tolerance:
        print("float16 changes too much; nothing was written", file=sys.stderr)
        return 1
    if validation is not None:
        facts["validation"] = {"images": images, "right": right}
    if args.test is not None:
        right, images = count_right(written, open_source(args.test, mode="val"))
        print(f"test: {right} of {images} right in float16")
        facts["test"] = {"images": images, "right": right}
    args.folder.mkdir(exist_ok=True)
    path = args.folder / f"{model.metadata.model}.{args.tag}.safetensors"
    write_weights(path, tensors, metadata={**file.metadata, "training": facts})
    print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


def count_right(model: CycleMLP, source: Source) -> tuple[int, int]:
    """Images that are classified rightly, and all of them."""
    result = evaluated(model, source)
    return round(result.top1 * result.images / 100), result.images


if __name__ == "__main__":
    sys.exit(main())
