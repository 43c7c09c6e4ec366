"""`cyclemlp plot`: curves of one or several training runs in one figure."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cyclemlp.errors import ConfigError, DataError
from cyclemlp.report import plot_curves, plot_runs, read_epochs

LOG = "log.jsonl"
FORMS = (".png", ".svg", ".pdf")

EXAMPLES = """examples:
  cyclemlp plot runs/digits                        loss, accuracy and learning rate; writes runs/digits/curves.png
  cyclemlp plot runs/b1 runs/b2 --output both.pdf  two runs in one figure, a colour a run
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
        help="a folder that `cyclemlp train` made, or its log.jsonl",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the figure, .png, .svg or .pdf (default: curves.png, of one run in its folder, of several here)",
    )
    parser.add_argument(
        "--title", metavar="WORDS", help="over the figure (default: the name of a single run)"
    )


def run(args: argparse.Namespace) -> int:
    """Draw; returns the exit code."""
    logs = [_log(path) for path in args.runs]
    epochs = [_epochs(log) for log in logs]
    output: Path = args.output or (logs[0].parent / "curves.png" if len(logs) == 1 else Path("curves.png"))
    if output.suffix.lower() not in FORMS:
        raise ConfigError(f"--output {output}: its suffix decides the form; give one of {', '.join(FORMS)}")
    if len(logs) == 1:
        plot_curves(epochs[0], output, title=args.title or _name(logs[0], 1))
    else:
        plot_runs(dict(zip(_names(logs), epochs, strict=True)), output, title=args.title)
    print(f"written   {output}")
    return 0


def _log(path: Path) -> Path:
    log = path / LOG if path.is_dir() else path
    if not log.exists():
        hint = (
            f"it holds no {LOG}, so it is no run of `cyclemlp train`"
            if path.is_dir()
            else "there is no such folder"
        )
        raise DataError(f"{path}: {hint}; give a run's folder")
    return log


def _epochs(log: Path) -> list[dict[str, Any]]:
    epochs = read_epochs(log)
    if not epochs:
        raise DataError(f"{log}: no epoch is finished yet, so there is nothing to draw")
    return epochs


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
