"""`cyclemlp info`: the variants, one variant, or one weight file, and the machine it all runs on."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cyclemlp._tune import bfloat16_instructions, tuning_facts, tuning_json
from cyclemlp._version import __version__
from cyclemlp.cli import common, options
from cyclemlp.cli.options import add
from cyclemlp.errors import ConfigError, MismatchError, ModelError
from cyclemlp.preprocessing import Size, sides, size_words
from cyclemlp.report import format_table
from cyclemlp.shipped import CONFIGS, shipped_path
from cyclemlp.text import counted

INFERRED = "inferred; no published weights confirm it"

EXAMPLES = """examples:
  cyclemlp info                              all variants, the versions to quote in a bug report, the tuning
  cyclemlp info cyclemlp_b1                  one variant: architecture, cost, what was published of it
  cyclemlp info cyclemlp_b1 --input-size 384 its cost at another image size
  cyclemlp info CycleMLP_B1.pth              a weight file: layout, tensors, metadata
  cyclemlp info w.pdparams --against cyclemlp_b2 --override num_classes=10
                                             every tensor of a weight file that does not fit
  cyclemlp info runs/digits --json           the model that a run made, for a program
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument(
        "what", nargs="?", metavar="MODEL|FILE|RUN", help="a variant's name, a weight file or a run folder"
    )
    add(
        parser,
        "--input-size",
        "size of the image for which to count MACs: the side of a square, or height x width",
    )
    add(
        parser,
        "--against",
        "the variant that a weight file should fit: lists every tensor that does not, and exits with 1 if any",
    )
    options.add_override_argument(parser)
    add(parser, "--json")


def run(args: argparse.Namespace) -> int:
    facts: dict[str, Any]
    overrides = common.model_overrides(args.override) if args.override else {}
    is_file = args.what is not None and Path(args.what).exists()
    if args.against is not None and not is_file:
        raise ConfigError("--against goes with a weight file: cyclemlp info FILE --against NAME")
    if overrides and args.against is None and (args.what is None or is_file):
        raise ConfigError("--override goes with a variant's name: cyclemlp info NAME --override key=value")
    if args.against is not None:
        return _compare(Path(args.what), args.against, overrides, as_json=args.json)
    if args.what is None:
        models, versions = _all_models(args.input_size), _versions()
        facts = {"models": models, "versions": versions, "tuning": tuning_json()}
        text = "\n\n".join(
            (_models_text(models), common.pairs_text(versions), common.pairs_text({"tuning": tuning_facts()}))
        )
    elif is_file:
        facts = _file_facts(Path(args.what))
        text = common.pairs_text(facts)
    else:
        facts = _model_facts(args.what, args.input_size, overrides)
        text = common.pairs_text(facts)
    if args.json:
        common.print_json(facts, indent=2)
    else:
        print(text)
    return 0


def _compare(path: Path, name: str, overrides: Mapping[str, Any], *, as_json: bool) -> int:
    """Whether a weight file fits a variant: every tensor that does not. 1 if any does not, else 0."""
    import cyclemlp

    mismatches: tuple[str, ...] = ()
    model = cyclemlp.create_model(name, **overrides)
    try:
        match = str(cyclemlp.load_weights(model, path))
    except MismatchError as error:
        match, mismatches = str(error).partition("\n")[0], error.mismatches
    if as_json:
        common.print_json({"fits": not mismatches, "match": match, "mismatches": mismatches}, indent=2)
    else:
        print("\n  ".join((match, *mismatches)))
    return 1 if mismatches else 0


def _model_facts(
    name: str, input_size: Size | None, overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    from cyclemlp.models import model_info

    facts = model_info(name, **(overrides or {}))
    if facts["inferred"]:
        facts = {"name": facts["name"], "note": INFERRED, **facts}
    if input_size is not None:
        from cyclemlp.network import CycleMLPConfig, count_macs

        config = CycleMLPConfig(**facts["architecture"])
        height, width = sides(input_size)
        if min(height, width) < config.min_size:
            raise ModelError(
                f"--input-size is {size_words(input_size)}; {name} needs at least {counted(config.min_size, 'pixel')}"
            )
        facts |= {"input_size": input_size, "macs": count_macs(config, height, width)}
    return facts


def _all_models(input_size: Size | None) -> list[dict[str, Any]]:
    from cyclemlp.models import list_models

    return [_model_facts(name, input_size) for name in list_models()]


def _models_text(models: list[dict[str, Any]]) -> str:
    rows = []
    for facts in models:
        published = facts["published"]
        rows.append(
            [
                facts["name"],
                f"{facts['parameters'] / 1e6:.2f}",
                f"{facts['macs'] / 1e9:.3f}",
                size_words(facts["input_size"], "²"),
                "–" if published["top1_percent"] is None else f"{published['top1_percent']:.1f}",
                _weights_text(facts),
            ]
        )
    header = ["model", "parameters, M", "MACs, G", "at", "top-1 %, published", "published weights"]
    return format_table(header, rows)


def _weights_text(facts: dict[str, Any]) -> str:
    if not facts["from_paper"]:
        return "none: small, not of the paper"
    return f"{facts['published']['weights_file']}{f'; {INFERRED}' if facts['inferred'] else ''}"


def _file_facts(path: Path) -> dict[str, Any]:
    from cyclemlp.weights import read_weights

    file = read_weights(path)
    dtypes = sorted({str(tensor.dtype) for tensor in file.tensors.values()})
    facts = {
        "file": str(file.path),
        "layout": file.layout,
        "tensors": len(file.tensors),
        "parameters": sum(tensor.size for tensor in file.tensors.values()),
        "dtypes": dtypes,
        "notes": list(file.notes),
        "metadata": file.metadata or None,
    }
    if "model" not in file.metadata:
        from cyclemlp.models import identify

        facts["nearest"] = identify(file)
    return facts


def _versions() -> dict[str, Any]:
    import numpy
    import paddle

    from cyclemlp.kernels import describe_kernels

    gpus = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    return {
        "paddle-cyclemlp": __version__,
        "paddle": paddle.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "bfloat16": ", ".join(bfloat16_instructions()) or "not in this processor",
        "gpus": gpus,
        "kernels": describe_kernels(),
        "configurations": str(shipped_path(CONFIGS)),
    }
