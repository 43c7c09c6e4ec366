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
from cyclemlp.cli import common
from cyclemlp.cli.training import typed_command
from cyclemlp.errors import ConfigError, ModelError, WeightsError
from cyclemlp.report import format_table

if TYPE_CHECKING:
    from cyclemlp.data import Source
    from cyclemlp.evaluation.reproduction import Row
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

Exit code: 0 done; 1 a model gives no finite numbers; 2 something to mend in what was asked, or a weight file that
cannot be used: the other models are measured all the same.
"""
NETWORK = "network"
FORMATS = {"onnxruntime": "onnx", "openvino": "openvino", "paddle": "paddle"}
WEIGHT_NAME = re.compile(r"(?:paddle_)?(cyclemlp_b[1-5])\.(?:pth|pt|pdparams|safetensors)", re.IGNORECASE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--weights", type=Path, required=True, metavar="DIR", help="folder with the weight files, or one file"
    )
    parser.add_argument(
        "--imagenet", required=True, metavar="DIR|TAR", help="where ImageNet's validation images are"
    )
    parser.add_argument(
        "--models",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="only these, e.g. cyclemlp_b1 (default: all that are there)",
    )
    parser.add_argument(
        "--runtime",
        nargs="+",
        action="extend",
        choices=(NETWORK, *FORMATS),
        help="what computes: the network in Paddle (default), or exported, in float32; several make a row each",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("results/reproduce"),
        metavar="DIR",
        help="where results are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print reproduce.json on stdout, and nothing else there"
    )
    common.add_running_arguments(parser, batch_size=64)


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
    from cyclemlp.models import describe_model

    files = find_weights(args.weights, args.models)
    output = common.output_folder(args.output)
    assert output is not None
    common.output_folder(output / "images")
    device = common.choose_device(args.device)
    place, source = open_imagenet(args.imagenet, "val")
    print(f"images  {len(source):,} in {place}", file=sys.stderr)
    preprocessing = describe_model("cyclemlp_b1")[1].preprocessing  # the protocol is the same for all
    facts = {
        "images": f"{len(source):,} in {place}"
        + (
            ""
            if len(source) == IMAGES["val"]
            else f": NOT the {IMAGES['val']:,} of ImageNet's validation set"
        ),
        "protocol": f"{preprocessing.resize_text}, {preprocessing.interpolation}, {preprocessing.crop_text}",
        "device": device,
        "version": f"paddle-cyclemlp {__version__}",
        "command": _command(args),
    }
    data, rows, code = fingerprint(source), [], 0
    report: dict[str, Any] = {}
    for case in (
        Case(model, path, runtime) for model, path in files for runtime in args.runtime or [NETWORK]
    ):
        try:
            rows.append(_measure(case, args, source, preprocessing, data, output))
        except (ModelError, WeightsError, FloatingPointError) as error:
            code = max(code, 1 if isinstance(error, FloatingPointError) else 2)
            common.message(f"cyclemlp reproduce: error: {case.path} in {case.runtime}: {error}")
            continue
        report = _write(output, rows, {**facts, "date": f"{datetime.now(timezone.utc):%Y-%m-%d}"}, data)
    if args.json:
        common.print_json(report, indent=2)
    elif rows:
        from cyclemlp.evaluation.reproduction import NARROW_TABLE, narrow_rows

        print(format_table(NARROW_TABLE, narrow_rows(rows)))
        print(f"\nwritten   {output / 'reproduce.md'}, {output / 'reproduce.json'}")
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
    case: Case,
    args: argparse.Namespace,
    source: Source,
    preprocessing: Preprocessing,
    data: str,
    output: Path,
) -> Row:
    from cyclemlp.evaluation.reproduction import Figures, ImageLog, Row, evaluate_logged
    from cyclemlp.models import model_info
    from cyclemlp.weights import file_sha256

    try:
        weights = file_sha256(case.path)
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror or error}") from error
    identity = {
        "weights_sha256": weights,
        "data_sha256": data,
        "protocol": preprocessing.to_dict(),
        "model": case.model,
        "runtime": case.runtime,
    }
    words = f"{case.model}, {case.path.name}" + (f", {case.runtime}" if case.runtime != NETWORK else "")
    path = output / "images" / f"{case.path.name}.{case.runtime}.jsonl"
    with ImageLog(path, json.loads(json.dumps(identity)), len(source)) as log:
        if log.changed:
            common.message(f"{words}: measured anew, for its {', '.join(log.changed)} changed")
        elif log.done:
            common.message(
                f"{words}: "
                + ("known" if log.complete else f"goes on after {log.done:,} of {len(source):,} images")
            )
        else:
            common.message(f"{words}: begins")
        if log.complete:
            measured = log.figures()
        else:
            with tempfile.TemporaryDirectory(prefix="cyclemlp-") as folder:
                classify, tensors = _open(case, Path(folder))
                measured = evaluate_logged(
                    classify, _loader(args, source, preprocessing, tensors=tensors), log
                )
    published = model_info(case.model)["published"]
    return Row(
        case.model,
        case.path.name,
        case.runtime,
        len(source),
        measured,
        seed=Figures(published["seed_top1_percent"], published["seed_top5_percent"], published["seed_loss"]),
        paper=Figures(published["top1_percent"]),
    )


def _open(case: Case, folder: Path) -> tuple[Callable[[Any], Any], bool]:
    """From a batch to logits, and whether it takes tensors."""
    model = common.model_with_weights(case.model, case.path, None)
    if (count := common.model_class_count(model)) != 1000:
        raise ModelError(f"it has {count} classes, and ImageNet has 1000")
    if case.runtime == NETWORK:
        from cyclemlp.evaluation import as_callable

        return as_callable(model), True
    from cyclemlp.deploy import export_model, load_exported

    model.eval()
    export_model(model, folder / "model", FORMATS[case.runtime])
    return load_exported(folder / "model", case.runtime).logits, False


def _loader(args: argparse.Namespace, source: Source, preprocessing: Preprocessing, *, tensors: bool) -> Any:
    from cyclemlp.data import build_loader, evaluation_transform

    return build_loader(
        source,
        evaluation_transform(preprocessing),
        batch_size=args.batch_size,
        # Exported models run on the processor.
        num_workers=common.choose_workers(
            args.workers, source, common.choose_device(args.device) if tensors else "cpu"
        ),
        tensors=tensors,
    )


def _write(output: Path, rows: list[Row], facts: dict[str, str], data: str) -> dict[str, Any]:
    from cyclemlp.evaluation.reproduction import to_markdown

    report = {**facts, "data_sha256": data, "rows": [row.to_dict() for row in rows]}
    common.write_text(output / "reproduce.json", json.dumps(report, indent=2) + "\n")
    common.write_text(
        output / "reproduce.md", to_markdown(rows, {**facts, "command": f"`{facts['command']}`"})
    )
    return report


def _command(args: argparse.Namespace) -> str:
    flags = ("weights", "imagenet", "models", "runtime", "output", "batch_size", "device")
    return typed_command(["cyclemlp", "reproduce"], args, flags)
