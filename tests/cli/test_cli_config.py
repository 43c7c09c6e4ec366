"""`--config` and models that belong to another command: each says which."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cyclemlp.cli.main import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "file", "says"),
    [
        (
            ["train", "--show-recipe"],
            "configs/seg/pets3.yaml",
            "is a configuration of segmentation, by its key _base_",
        ),
        (["train", "--show-recipe"], "configs/det/own_data.yaml", "use `cyclemlp det` with it"),
        (["show-data"], "configs/seg/own_data.yaml", "use `cyclemlp seg` with it"),
        (
            ["seg", "train"],
            "configs/digits.yaml",
            "is a recipe of classification, by its key amp; use",
        ),
        (["seg", "check"], "configs/det/_small.yaml", "use `cyclemlp det` with it"),
        (["det", "train"], "configs/seg/pets3.yaml", "use `cyclemlp seg` with it"),
        (["det", "check"], "configs/finetune/own_folder.yaml", "use `cyclemlp train` with it"),
    ],
)
def test_a_configuration_of_another_command(words, file, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--config", file]) == 2
    assert says in capsys.readouterr().err
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(ROOT / file, run / "recipe.yaml")
    if words[-1] == "train":
        assert main([*words, "--resume", str(run)]) == 2
        assert says in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_every_configuration_is_taken_by_its_own_command():
    from cyclemlp.cli.common import CONFIG_KINDS, config_file

    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        folder = path.parent.name
        own = folder if folder in ("seg", "det") else "train"
        assert config_file(path, own) == path
        if path.name[0] != "_":
            for other in CONFIG_KINDS.keys() - {own}:
                with pytest.raises(Exception, match=f"use `cyclemlp {own}` with it"):
                    config_file(path, other)
