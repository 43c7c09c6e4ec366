"""What the commands that train have in common: arguments of the run, who speaks and where, exit codes."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from cyclemlp.text import line_of

T = TypeVar("T")


def speaker(json: bool, *, is_first: bool = True) -> Callable[[str], None]:
    """What prints lines for people: on stderr where stdout is for JSON, and in the first process only."""

    def say(text: str) -> None:
        if is_first:
            print(text, file=sys.stderr if json else sys.stdout, flush=True)

    return say


def typed_command(words: Sequence[str], args: argparse.Namespace, flags: Iterable[str]) -> str:
    """The command as it was typed, as far as it matters for the result.

    Args:
        words: the command's own, such as "cyclemlp", "train".
        flags: names of the attributes of `args` to tell, in this order.
    """
    typed = list(words)
    for flag in flags:
        value = getattr(args, flag)
        option = "--" + flag.replace("_", "-")
        if isinstance(value, list):
            typed += [word for item in value for word in (option, str(item))]
        elif isinstance(value, tuple):  # height and width
            typed += [option, "x".join(map(str, value))]
        elif value is True:
            typed.append(option)
        elif value is not None and value is not False:
            typed += [option, str(value)]
    return shlex.join(typed)


def result_or_exit_code(program: str, train: Callable[[], T], output: Path) -> T | int:
    """Train; where that fails or is stopped, say so on stderr.

    Args:
        program: for the message, such as "cyclemlp train".
        train: the work.
        output: the run's folder.

    Returns:
        The result of the work; or 1 if it failed, 128 and the signal's number if it was stopped.
    """
    from cyclemlp.training import TrainingFailedError, TrainingStoppedError

    try:
        return train()
    except TrainingFailedError as error:
        print(f"{program}: failed: {line_of(error)}", file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a folder that cannot be written
        kept = "; checkpoints so far are kept" if output.is_dir() else ""
        print(f"{program}: failed: {line_of(error)}{kept}", file=sys.stderr)
        return 1
    except TrainingStoppedError as stopped:
        again = f"go on with: {program} --resume {shlex.quote(str(output))}"
        print(f"{program}: {stopped}\n{again}", file=sys.stderr)
        return 128 + stopped.signal
