"""`cyclemlp reproduce`: the published ImageNet figures of B1 to B5, measured again from weight files."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cyclemlp._version import __version__
from cyclemlp.cli import common, options
from cyclemlp.cli.options import add
from cyclemlp.cli.training import typed_command
from cyclemlp.errors import ConfigError, ModelError, WeightsError
from cyclemlp.text import counted

if TYPE_CHECKING:
    from cyclemlp.data import Source
    from cyclemlp.evaluation.reproduction import ImageLog, Row
    from cyclemlp.preprocessing import Preprocessing

EXAMPLES = """which weights: every file in DIR that is called as the published ones are, whoever converted it:
  CycleMLP_B1.pth, paddle_CycleMLP_B1.pdparams, cyclemlp_b1.safetensors …
which images: ImageNet's 50,000 for validation, as they are downloaded (ILSVRC2012_img_val.tar and
  ILSVRC2012_devkit_t12.tar.gz), in val/ with a folder a class or none, or listed in val_list.txt; see docs/imagenet.md

It writes OUTPUT/reproduce.md and reproduce.json after each model, and OUTPUT/images/ as it goes. The same command
goes on where it was stopped; what a changed weight file, image or label is about is measured anew.

examples:
  cyclemlp reproduce --weights weights --imagenet ILSVRC2012
  cyclemlp reproduce --weights weights --imagenet ILSVRC2012 --models cyclemlp_b1 cyclemlp_b3 --device gpu
  cyclemlp reproduce --weights weights --imagenet ILSVRC2012 --runtime network onnxruntime openvino

Exit code: 0 done; 1 a model gives no finite numbers; 2 an error in the options or the input, or a weight file that
cannot be used: the other models are measured all the same.
"""
#: What of the command is noted beside the figures.
TYPED = ("weights", "imagenet", "models", "runtime", "output", "batch_size", "device")
NETWORK = "network"
FORMATS = {"onnxruntime": "onnx", "openvino": "openvino", "paddle": "paddle"}
WEIGHT_NAME = re.compile(r"(?:paddle_)?(cyclemlp_b[1-5])\.(?:pth|pt|pdparams|safetensors)", re.IGNORECASE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = EXAMPLES
    add(parser, "--weights", "folder with the weight files, or one file", metavar="DIR", required=True)
    parser.add_argument(
        "--imagenet", required=True, metavar="DIR|TAR", help="where ImageNet's validation images are"
    )
    add(parser, "--models", "only these, e.g. cyclemlp_b1 (default: all that are there)")
    add(
        parser,
        "--runtime",
        "what computes: the network in Paddle (default), or exported, in float32; several make a row each",
        action="extend",
        nargs="+",
        choices=(NETWORK, *FORMATS),
    )
    add(
        parser, "--output", "where results are kept (default: %(default)s)", default=Path("results/reproduce")
    )
    add(parser, "--json")
    options.add_running_arguments(parser, batch_size=64)


def run(args: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    with common.plain_warnings("reproduce"):
        return _reproduce(args)


class Case(NamedTuple):
    """A weight file to measure in a runtime."""

    model: str
    path: Path
    runtime: str


def _reproduce(args: argparse.Namespace) -> int:
    from cyclemlp.data.imagenet import IMAGES, fingerprint, open_imagenet
    from cyclemlp.evaluation.reproduction import narrow_table, write_reproduction
    from cyclemlp.models import describe_model

    files = find_weights(args.weights, args.models)
    output: Path = args.output
    for folder in (output, output / "images"):
        common.output_folder(folder)
    device = common.choose_device(args.device)
    place, source = open_imagenet(args.imagenet, "val")
    words = f"{len(source):,} in {place}"
    print(f"images    {words}", file=sys.stderr)
    if len(source) != IMAGES["val"]:
        words += f": NOT the {IMAGES['val']:,} of ImageNet's validation set"
    preprocessing = describe_model("cyclemlp_b1")[1].preprocessing  # the protocol is the same for all
    facts = {
        "images": words,
        "protocol": f"{preprocessing.resize_text}, {preprocessing.interpolation}, {preprocessing.crop_text}",
        "device": device,
        "version": f"paddle-cyclemlp {__version__}",
        "command": typed_command(["cyclemlp", "reproduce"], args, TYPED),
        "data_sha256": fingerprint(source),
    }
    rows, code, report = [], 0, {}
    for case in (Case(*file, runtime) for file in files for runtime in args.runtime or [NETWORK]):
        try:
            rows.append(_measure(case, args, source, preprocessing, facts["data_sha256"]))
        except (ModelError, WeightsError, FloatingPointError) as error:
            code = max(code, 1 if isinstance(error, FloatingPointError) else 2)
            common.message(f"cyclemlp reproduce: error: {case.path} in {case.runtime}: {error}")
            continue
        report = write_reproduction(output, rows, {**facts, "date": f"{datetime.now(timezone.utc):%Y-%m-%d}"})
    if args.json:
        common.print_json(report, indent=2)
    elif rows:
        print(f"{narrow_table(rows)}\n\nwritten   {output / 'reproduce.md'}, {output / 'reproduce.json'}")
    return code


def find_weights(place: Path, models: list[str] | None) -> list[tuple[str, Path]]:
    """(variant, weight file), in the variants' order.

    Raises:
        WeightsError: there are none, or none of a model that is asked for.
        ConfigError: a model is asked for that is none of B1 to B5.
    """
    if not place.exists():
        raise WeightsError(f"--weights {place}: there is no such folder or file")
    found: dict[str, list[Path]] = {}
    for path in sorted(place.iterdir() if place.is_dir() else [place]):
        match = WEIGHT_NAME.fullmatch(path.name)
        if match and path.is_file():
            found.setdefault(match[1].lower(), []).append(path)
    if not found:
        raise WeightsError(
            f"--weights {place}: holds no weights of B1 to B5; expected names such as CycleMLP_B1.pth, "
            "paddle_CycleMLP_B1.pdparams, cyclemlp_b1.safetensors"
        )
    for model in models or []:
        if not re.fullmatch(r"cyclemlp_b[1-5]", model, re.IGNORECASE):
            raise ConfigError(f"--models {model}: figures are published of cyclemlp_b1 to cyclemlp_b5")
        if model.lower() not in found:
            raise WeightsError(
                f"--models {model}: {place} holds no weights of it, only of {', '.join(sorted(found))}"
            )
    chosen = {model.lower() for model in models} if models else found.keys()
    return [(model, path) for model in sorted(chosen) for path in found[model]]


def _measure(
    case: Case, args: argparse.Namespace, source: Source, preprocessing: Preprocessing, data_sha256: str
) -> Row:
    from cyclemlp.data import evaluation_transform
    from cyclemlp.evaluation.reproduction import Figures, ImageLog, Row, evaluate_logged
    from cyclemlp.files import file_sha256
    from cyclemlp.models import model_info

    try:
        weights = file_sha256(case.path)
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror or error}") from error
    identity = {
        "weights_sha256": weights,
        "data_sha256": data_sha256,
        "protocol": preprocessing.to_dict(),
        "model": case.model,
        "runtime": case.runtime,
    }
    path = args.output / "images" / f"{case.path.name}.{case.runtime}.jsonl"
    with ImageLog(path, json.loads(json.dumps(identity)), len(source)) as log:
        runtime = f", {case.runtime}" if case.runtime != NETWORK else ""
        common.message(f"{case.model}, {case.path.name}{runtime}: {_state(log)}")
        if log.complete:
            measured = log.figures()
        else:
            with tempfile.TemporaryDirectory(prefix="cyclemlp-") as folder:
                model, classify = _open(case, Path(folder))
                device = common.choose_device(args.device) if case.runtime == NETWORK else "cpu"
                loader = common.open_loader(args, model, source, evaluation_transform(preprocessing), device)
                measured = evaluate_logged(classify, loader, log)
    published = model_info(case.model)["published"]
    reproduced = Figures(
        *(published[f"reproduced_{name}"] for name in ("top1_percent", "top5_percent", "loss"))
    )
    paper = Figures(published["top1_percent"])
    return Row(case.model, case.path.name, case.runtime, len(source), measured, reproduced, paper)


def _state(log: ImageLog) -> str:
    if log.changed:
        return f"measured anew, for its {', '.join(log.changed)} changed"
    if log.complete:
        return "known"
    return f"goes on after {log.done:,} of {counted(len(log.ranks), 'image')}" if log.done else "begins"


def _open(case: Case, folder: Path) -> tuple[Any, Callable[[Any], Any]]:
    """The model, exported into the folder where the runtime asks for it, and from a batch to logits."""
    from cyclemlp.deploy import export_model, load_exported
    from cyclemlp.evaluation import as_callable

    model = common.model_with_weights(case.model, case.path, None)
    if (count := common.model_class_count(model)) != 1000:
        raise ModelError(f"it has {counted(count, 'class')}, and ImageNet has 1000")
    if case.runtime == NETWORK:
        return model, as_callable(model)
    model.eval()
    export_model(model, folder / "model", FORMATS[case.runtime])
    exported = load_exported(folder / "model", case.runtime)
    return exported, exported.logits
