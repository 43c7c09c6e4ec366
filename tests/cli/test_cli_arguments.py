"""What all commands have in common: numbers that are none, values that are empty, what the system refuses."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest
from seg_fixtures import config_values, write_config, write_data

from cyclemlp.cli.main import COMMANDS, build_parser, main
from cyclemlp.cli.options import finite_number, whole_number

ROOT = Path(__file__).parents[2]


def options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from options(inner)
        else:
            yield action


@pytest.mark.parametrize("command", COMMANDS)
def test_no_option_takes_nan_or_infinity(command):
    found = list(options(build_parser(command)))
    assert len(found) > 3
    assert [action.dest for action in found if action.type in (float, int) and not action.choices] == []


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "", "one"])
def test_a_number_that_is_none(text):
    with pytest.raises(argparse.ArgumentTypeError, match="give a finite number"):
        finite_number(text)
    assert finite_number("1e-3") == 0.001


def test_whole_numbers_have_bounds():
    assert whole_number(0, 65_535)("65535") == 65_535
    for text in ("-1", "65536", "1.5", "nan"):
        with pytest.raises(argparse.ArgumentTypeError, match="give a whole number from 0 to 65535"):
            whole_number(0, 65_535)(text)


@pytest.mark.parametrize("words", [["eval", "run", "--data", ""], ["eval", "run", "--data="], ["info", ""]])
def test_an_empty_value_is_no_folder(words, capsys):
    assert main(words) == 2
    assert "is empty; is a variable of the shell unset?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--model=cyclemlp_nano", "--data=digits"],
        ["seg", "train", "--config=seg.yaml"],
        ["det", "train", f"--config={ROOT}/configs/det/own_data.yaml"],
    ],
    ids=["train", "seg", "det"],
)
def test_a_folder_that_cannot_be_made_is_a_message(words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path / "seg.yaml", config_values(write_data(tmp_path / "data")))
    assert main([*words, "--output=/proc/nowhere"]) in (1, 2)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("cyclemlp ")
    assert "/proc/nowhere" in last
    assert "kept" not in last


def test_an_error_of_the_system_is_a_message(tmp_path, capsys, monkeypatch):
    """A disk that fills up while something small is written, which nothing else caught."""
    monkeypatch.setattr("cyclemlp.cli.info.run", lambda args: (tmp_path / "none/file").write_text(""))
    assert main(["info"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("cyclemlp info: failed: [Errno 2] No such file or directory: ")
    assert "Traceback" not in err
