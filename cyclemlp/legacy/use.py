"""`eval.py` and `predict.py`: Paddle-CycleMLP's flags as options of our commands, and the files that it wrote."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cyclemlp.cli import eval as eval_command
from cyclemlp.cli import predict as predict_command
from cyclemlp.cli.main import answer, build_parser
from cyclemlp.errors import ConfigError
from cyclemlp.files import write_text
from cyclemlp.legacy.flags import (
    check_exists,
    evaluation_parser,
    legacy_figures,
    prediction_parser,
    preprocessing,
)
from cyclemlp.text import counted, printable_output
from cyclemlp.weights import read_weights


@printable_output()
def evaluate(argv: Sequence[str] | None = None) -> int:
    """`python eval.py …`; returns the exit code."""
    args = evaluation_parser().parse_args(argv)
    return answer("eval.py", lambda: _evaluate(args))


@printable_output()
def predict(argv: Sequence[str] | None = None) -> int:
    """`python predict.py …`; returns the exit code."""
    args = prediction_parser().parse_args(argv)
    return answer("predict.py", lambda: _predict(args))


def _evaluate(args: argparse.Namespace) -> int:
    if args.val_data_mode == "test":
        raise ConfigError("--val-data-mode is test: such a list has no labels, and accuracy needs them")
    code = eval_command.run(options_of("eval", args, "val"))
    if code == 0 and args.output_dir:
        figures = json.loads((Path(args.output_dir) / "eval.json").read_text(encoding="utf-8"))
        line = json.dumps(legacy_figures(figures["loss"], figures["top1"], figures["top5"]))
        write_text(Path(args.output_dir) / f"{args.model}_eval_log.txt", line + "\n")
    return code


def _predict(args: argparse.Namespace) -> int:
    mode = "test" if args.test_data_mode == "test" else "val"
    code = predict_command.run(options_of("predict", args, "test", list_mode=mode))
    if code == 0 and args.output_dir:
        content = json.loads((Path(args.output_dir) / "predictions.json").read_text(encoding="utf-8"))
        best = [entry["classes"][0]["index"] for entry in content["predictions"]]
        write_text(Path(args.output_dir) / "results.txt", "".join(f"{index}\n" for index in best))
    return code


def options_of(command: str, args: argparse.Namespace, part: str, **more: Any) -> argparse.Namespace:
    """The options of `cyclemlp eval` or `predict` that flags mean.

    Args:
        command: its name.
        part: of the flags' names: "val" of `eval.py`, "test" of `predict.py`.
        more: further options.

    Raises:
        ConfigError: no weights, a file that does not exist, weights with another number of classes.
    """
    if not args.model_pretrained:
        raise ConfigError("no weights: give --model-pretrained FILE; a random model can answer nothing")
    for flag in ("model_pretrained", f"{part}_txt_path"):
        check_exists(args, flag)
    head = read_weights(args.model_pretrained).tensors.get("head.bias")
    if head is not None and len(head) != args.num_classes:
        raise ConfigError(
            f"--num-classes is {args.num_classes}, and {args.model_pretrained} has {counted(len(head), 'class')}; give "
            f"--num-classes {len(head)}"
        )
    options = build_parser(command).parse_args([command])
    values = {
        "model": args.model,
        "weights": Path(args.model_pretrained),
        "data": getattr(args, f"{part}_data_dir"),
        "list": Path(getattr(args, f"{part}_txt_path")),
        "batch_size": args.batch_size,
        "workers": args.num_workers,
        "output": Path(args.output_dir) if args.output_dir else None,
        **preprocessing(args),
        **more,
    }
    for name, value in values.items():
        if not hasattr(options, name):
            raise AttributeError(f"cyclemlp {command} has no option {name}")
        setattr(options, name, value)
    return options
