"""`cyclemlp plot`: curves of one or several training runs in one figure."""

from __future__ import annotations

import argparse
from pathlib import Path

from cyclemlp.cli.options import add
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.run import CURVES, LOG, draw_runs

FORMS = (".png", ".svg", ".pdf")

EXAMPLES = """examples:
  cyclemlp plot runs/digits                        loss, accuracy and learning rate; writes runs/digits/curves.png
  cyclemlp plot runs/scenes                        of segmentation or detection: losses, mean IoU or average precision
  cyclemlp plot runs/b1 runs/b2 --figure both.pdf  two runs in one figure, a colour a run
  cyclemlp plot runs/*                             all of them, to curves.png in this folder

A run may still be going on: what its log.jsonl holds is drawn.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="a run's folder (of `cyclemlp train`, `seg train` or `det train`), or its log.jsonl",
    )
    add(
        parser,
        "--figure",
        "the figure, .png, .svg or .pdf (default: curves.png, of one run in its folder, of several here)",
        metavar="FILE",
    )
    add(parser, "--title", "over the figure (default: the name of a single run)")


def run(args: argparse.Namespace) -> int:
    """Draw; returns the exit code."""
    logs = [_log(path) for path in args.runs]
    output: Path = args.figure or (logs[0].parent / CURVES if len(logs) == 1 else Path(CURVES))
    if output.suffix.lower() not in FORMS:
        raise ConfigError(f"--figure {output}: its suffix decides the form; give one of {', '.join(FORMS)}")
    names = _names(logs)
    draw_runs(
        dict(zip(names, logs, strict=True)),
        output,
        title=args.title or (names[0] if len(logs) == 1 else None),
    )
    print(f"written   {output}")
    return 0


def _log(path: Path) -> Path:
    log = path / LOG if path.is_dir() else path
    if not log.exists():
        hint = f"it holds no {LOG}, so it is no run's folder" if path.is_dir() else "there is no such folder"
        raise DataError(f"{path}: {hint}; give a run's folder")
    return log


def _names(logs: list[Path]) -> list[str]:
    """The runs' folders' names, with as many folders above as tells them apart."""
    if len({log.resolve() for log in logs}) < len(logs):
        twice = next(log for log in logs if [other.resolve() for other in logs].count(log.resolve()) > 1)
        raise DataError(f"{twice.parent} is named twice")
    depth = 1
    while len({_name(log, depth) for log in logs}) < len(logs):
        depth += 1
    return [_name(log, depth) for log in logs]


def _name(log: Path, depth: int) -> str:
    return "/".join(log.resolve().parent.parts[-depth:])
