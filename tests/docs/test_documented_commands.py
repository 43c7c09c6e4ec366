"""Every `cyclemlp …` command line that this project shows is one that the parsers know: words, flags and choices.

Of the READMEs, docs, model cards, configurations, benchmarks, examples, and the messages and help texts of the package.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from cyclemlp.cli.main import COMMANDS, build_parser

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path
    for pattern in (
        *(
            "*.md",
            "docs/**/*.md",
            "docs/*.py",
            "configs/**/*.yaml",
            "benchmarks/**/*.py",
            "benchmarks/**/*.md",
        ),
        *("examples/*", "cyclemlp/**/*.py", "cyclemlp/**/*.html", "Makefile", "requirements/*", "mkdocs.yml"),
    )
    for path in ROOT.glob(pattern)
    if path.is_file() and path.name != "CHANGELOG.md"  # which tells of commands that were
)
#: Where a command begins: a line, after a prompt, an environment variable, a launcher or `-m`, or in backquotes.
COMMAND = re.compile(
    r"""(?: ^ [ \t#>|*-]* (?:\$[ ])? (?:(?:export|time|nohup)[ ]|[A-Z_]+=\S+[ ])* (?:[\w./]*/)?
        | -m[ ] | `` ? (?:[A-Z_]+=\S+[ ])* | command[ ]-v[ ] | &&[ ] | ;[ ] )
        cyclemlp (?:"?\))? "? [ ] (?P<words> [^\n`]+ )""",
    re.VERBOSE | re.MULTILINE,
)
#: Ends a command within a line.
END = re.compile(r"\s(?:\||&&|>|<|2>|;|&|#|\\n)(?:\s|$)|\)\"|\s—|\s–")


def commands_in(text: str) -> Iterator[str]:
    """The command lines of a text, without `cyclemlp`."""
    for match in COMMAND.finditer(re.sub(r"[ \t]*\\\\?\n[ \t#|]*", " ", text)):
        words = match["words"]
        end = END.search(words)
        yield (words if end is None else words[: end.start()]).strip()


@cache
def parser_of(command: str) -> argparse.ArgumentParser:
    return build_parser(command)


def is_placeholder(word: str) -> bool:
    """Whether a word stands for others: DIR, FILE|RUN, …, <name>, {name}, $NAME."""
    return bool(re.search(r"[…<>{}$*|\[\]]|\.\.\.", word)) or word.isupper()


def problems(command: str) -> list[str]:
    """What is wrong with a command line."""
    try:
        words = shlex.split(command)
    except ValueError:  # a quotation in a message of ours
        words = command.split()
    words = [
        word.strip("[](),.:") if word.startswith(("[-", "--")) or word.endswith("]") else word
        for word in words
    ]
    parser, found = parser_of(words[0]) if words[0] in COMMANDS else None, []
    if words[0].rstrip(":") in COMMANDS and words[0].endswith(":"):  # a message: `cyclemlp eval: error: …`
        return []
    if parser is None:
        return [] if is_placeholder(words[0]) or words[0].startswith("-") else [f"no command {words[0]}"]
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        subparsers = next((a for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)
        if word.startswith("--") and len(word) > 2:
            name, _, value = word.partition("=")
            action = parser._option_string_actions.get(name)
            if action is None:
                found.append(f"{parser.prog} has no {name}")
            elif action.nargs != 0:
                given = [value] if value else words[at : at + 1]
                found += [f"{parser.prog} {name}: no {v!r}" for v in given if not _taken(action, v)]
                at += 0 if value else 1
        elif subparsers is not None:
            names = word.rstrip(".,:;").split("|")
            if all(name in subparsers.choices for name in names):
                parser = subparsers.choices[names[0]]
            elif not is_placeholder(word):
                return [f"{parser.prog} has no {word}"]
            else:
                return found
    return found


def _taken(action: argparse.Action, value: str) -> bool:
    return action.choices is None or is_placeholder(value) or value.strip(",.") in map(str, action.choices)


def texts(path: Path) -> str:
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text("utf-8"))["cells"]
        return "\n".join("".join(cell["source"]) for cell in cells)
    return path.read_text("utf-8")


def test_every_command_line_is_known() -> None:
    wrong, seen = [], 0
    for path in FILES:
        for command in commands_in(texts(path)):
            seen += 1
            wrong += [f"{path.relative_to(ROOT)}: `cyclemlp {command}`: {what}" for what in problems(command)]
    assert not wrong, "\n".join(wrong)
    assert seen > 300  # so that the extraction cannot silently find nothing


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("    cyclemlp train --data DIR   # a comment", "train --data DIR"),
        ("$ cyclemlp seg train \\\n    --config c.yaml | tee log", "seg train --config c.yaml"),
        ("#   cyclemlp det check --config my_data.yaml", "det check --config my_data.yaml"),
        ('launch --devices 0 "$(command -v cyclemlp)" det train --config x', "det train --config x"),
        ("OMP_NUM_THREADS=1 .venv/bin/cyclemlp bench", "bench"),
        ("say `cyclemlp seg check`, and", "seg check"),
        ("`python -m cyclemlp eval --weights W`", "eval --weights W"),
        ("the package cyclemlp is", None),
    ],
)
def test_commands_are_found_in_texts(text: str, command: str | None) -> None:
    assert list(commands_in(text)) == ([] if command is None else [command])


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("trian --data DIR", "no command trian"),
        ("seg chekc --config c.yaml", "cyclemlp seg has no chekc"),
        ("det export RUN --format tensorrt", "cyclemlp det export --format: no 'tensorrt'"),
        ("det export RUN --with-nms", "cyclemlp det export has no --with-nms"),
        ("train --dat DIR", "cyclemlp train has no --dat"),
        ("export RUN --format=tflite", "cyclemlp export --format: no 'tflite'"),
    ],
)
def test_what_the_parsers_do_not_know_is_found(command: str, says: str) -> None:
    assert problems(command) == [says]
