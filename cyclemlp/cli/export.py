"""`cyclemlp export`: a trained model in the form that a runtime wants."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

from cyclemlp.cli import common, options
from cyclemlp.cli.options import add
from cyclemlp.errors import ConfigError
from cyclemlp.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

USAGE = """cyclemlp export MODEL --output DIR [--format onnx|openvino|paddle] [options]
       cyclemlp export --model NAME (--weights FILE | --pretrained [TAG]) --output DIR [options]"""

EXAMPLES = """examples:
  cyclemlp export runs/pets --output exported/pets
      exported/pets/model.onnx, for ONNX Runtime, OpenVINO and whatever reads ONNX
  cyclemlp export --model cyclemlp_b1 --pretrained --format openvino --output exported/b1
      the published weights, for OpenVINO
  cyclemlp export runs/pets --with-maps --output exported/pets_maps
      with a second output: for every class, where on the image it was seen
  cyclemlp export runs/pets --int8 --calibration pets/train --output exported/pets_int8
      weights and activations in 8 bits, with the ranges of values on 256 images of pets/train
  cyclemlp export runs/pets --features --output exported/pets_features
      normalised maps of the four stages instead of logits

and then:
  cyclemlp eval exported/pets --data pets/val
  cyclemlp predict exported/pets cat.jpg --runtime openvino --precision bfloat16
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.usage, parser.epilog = USAGE, EXAMPLES
    options.add_model_arguments(parser)
    group = parser.add_argument_group("what to write")
    add(group, "--output", "folder to make", required=True)
    add(
        group,
        "--format",
        "onnx: model.onnx; openvino: model.xml and .bin; paddle: Paddle Inference (default: %(default)s)",
        choices=("onnx", "openvino", "paddle"),
        default="onnx",
    )
    add(group, "--force", "replace an exported model in DIR")
    add(group, "--features", "give the four stages' maps instead of logits")
    add(group, "--with-maps", "give the class maps beside the logits")
    add(group, "--opset", "of ONNX, up to 17 (the default)", default=17)
    group = parser.add_argument_group("8-bit integers")
    add(group, "--int8", "quantise; needs --calibration")
    add(group, "--calibration", "images like those that the model will see, such as its training images")
    add(group, "--calibration-images", "how many of them, spread evenly (default: %(default)s)", default=256)
    add(parser, "--json")


def run(args: argparse.Namespace) -> int:
    """Export, and say what was written."""
    if args.int8 != bool(args.calibration):
        raise ConfigError("--int8 and --calibration IMAGES go together")
    if args.features and args.with_maps:
        raise ConfigError("--with-maps is of a classifier's logits; --features gives none")
    os.environ.setdefault("GLOG_minloglevel", "2")  # Paddle warns of its own way of tracing
    with common.plain_warnings("export"):
        from cyclemlp.deploy import RUNS, export_model, feature_form

        model = common.open_model(args)
        if args.features:
            model = feature_form(model)
        calibration = _calibration(args, model) if args.int8 else None
        metadata = export_model(
            model,
            args.output,
            args.format,
            with_maps=args.with_maps,
            calibration=calibration,
            opset=args.opset,
            force=args.force,
        )
    files = {str(path): path.stat().st_size for path in sorted(args.output.iterdir())}
    if args.json:
        common.print_json({"files": files, **json.loads(metadata.to_json())}, indent=2)
        return 0
    preprocessing = metadata.preprocessing
    print(f"model     {metadata.model}, {metadata.precision}")
    print(
        f"input     [batch, {preprocessing.channels}, height, width], each from {counted(metadata.min_size, 'pixel')}"
    )
    for output in metadata.outputs:
        stride = "" if output.stride is None else f", a position every {counted(output.stride, 'pixel')}"
        print(f"output    {output.name}: {output.kind}{stride}")
    print(
        f"prepared  {preprocessing.resize_text}, {preprocessing.crop_text}, {preprocessing.interpolation}"
        + (", turned by EXIF" if preprocessing.exif == "apply" else "")
    )
    print(f"runs in   {' and '.join(RUNS[args.format])}")
    for path, size in files.items():
        print(f"written   {path}, {size:,} bytes")
    return 0


def _calibration(args: argparse.Namespace, model: Any) -> Iterator[np.ndarray]:
    """Batches of the calibration images, prepared for the model."""
    import numpy as np

    from cyclemlp.data import Digits, ImageFiles, evaluation_transform

    source = Digits("train") if args.calibration == "digits" else ImageFiles([args.calibration])
    count = min(args.calibration_images, len(source))
    transform = evaluation_transform(model.metadata.preprocessing)
    indices = np.linspace(0, len(source) - 1, count).astype(int).tolist()
    for start in range(0, count, 16):
        images = [transform(source[index].image) for index in indices[start : start + 16]]
        yield np.stack(images)
