"""Names of files and classes come from strangers: no command gives a terminal what it would obey."""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata

import numpy as np
import paddle
import pytest
from PIL import Image

import cyclemlp
from cyclemlp.cli.main import main
from cyclemlp.legacy import use

#: Title of a terminal, bell, colour, C1, right to left, a line that claims something, a byte that is no UTF-8.
EVIL = "a\x1b]0;owned\x07\x1b[31m\x9b\u202e\x7f\r\ncyclemlp: error: b"
BYTE = f"{EVIL}\udce9"
TINY = ["--epochs=1", "--batch-size=2", "--no-progress", "--input-size=32"]
TINY += ["--set=schedule.warmup_epochs=0", "--set=augment.repeats=1", "--set=amp.dtype=null"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """data/train and data/val with classes EVIL and b; m.safetensors knows these classes."""
    place = tmp_path_factory.mktemp("evil")
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in (EVIL, "b"):
            (place / "data" / part / name).mkdir(parents=True)
            for i in range(2):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / "data" / part / name / f"{i}{BYTE}.png")
    paddle.seed(0)
    model = cyclemlp.create_model("cyclemlp_nano", num_classes=2, in_chans=3)
    model.metadata.classes = [EVIL, "b"]
    cyclemlp.save_model(model, place / "m.safetensors")
    (place / "bad").mkdir()
    (place / "bad" / f"x{BYTE}.png").write_bytes(b"no image")
    (place / f"r{EVIL}.yaml").write_text('{"mod\\u001b[31mel": 1}')
    return place


@pytest.fixture
def said(place, monkeypatch, capfdbinary):
    """Runs a command in `place`: exit code and everything it printed."""
    monkeypatch.chdir(place)

    def said(*words, program=main):
        # Streams as a terminal's: pytest's own take no surrogates.
        with open(1, "w", closefd=False) as out, open(2, "w", closefd=False) as err:
            monkeypatch.setattr(sys, "stdout", out)
            monkeypatch.setattr(sys, "stderr", err)
            try:
                code = program(list(words))
            except SystemExit as end:  # argparse
                code = end.code
        shown = capfdbinary.readouterr()
        text = (shown.out + shown.err).decode()
        found = [c for c in text.replace("\n", "") if unicodedata.category(c) in ("Cc", "Cf", "Cs")]
        assert not found, found
        assert "\ncyclemlp: error: b" not in text
        return code, text, shown.out.decode()

    return said


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["predict", "m.safetensors", "data/val"], 0),
        (["predict", "m.safetensors", "bad", "--skip-bad"], 1),
        (["predict", "m.safetensors", "bad"], 2),
        (["predict", "m.safetensors", f"lost{BYTE}"], 2),
        (["predict", f"lost{BYTE}", "data/val"], 2),
        (["eval", "m.safetensors", "--data", "data/val"], 0),
        (["eval", "m.safetensors", "--data", "bad"], 2),
        (["data", "check", "data"], 0),
        (["info", "m.safetensors"], 0),
        (["info", f"lost{BYTE}"], 2),
        (["train", "--config", f"r{EVIL}.yaml"], 2),
        (["train", "--data", "data", "--set", f"{EVIL}=1"], 2),
        (["train", "--data", "data", "--classes", f"lost{BYTE}"], 2),
        (["train", "--data", "data", "--model", EVIL], 2),
        (["train", EVIL], 2),
        (["compare", f"lost{BYTE}", EVIL], 2),
        (["plot", f"lost{BYTE}"], 2),
        (["serve", f"lost{BYTE}"], 2),
        (["export", "m.safetensors", "--format", EVIL, "--output", "o"], 2),
        (["explain", "gradcam", "m.safetensors", f"lost{BYTE}"], 2),
        (["bench", f"lost{BYTE}"], 2),
    ],
    ids=lambda value: "-".join(re.findall(r"\w+", " ".join(value)))[:40] if isinstance(value, list) else "",
)
def test_commands_print_no_control_characters(words, code, said):
    found, text, _ = said(*words)
    assert found == code, text
    assert text


def test_the_first_reproductions_commands_too(said):
    assert said("--no-such", EVIL, program=use.predict)[0] == 2


@pytest.mark.parametrize("words", [["predict", "m.safetensors", "data/val"], ["info", "m.safetensors"]])
def test_json_has_the_names_as_they_are(words, said):
    code, _, out = said(*words, "--json")
    assert code == 0
    assert EVIL in str_of(json.loads(out))


def str_of(value):
    """Every text in JSON values, joined."""
    if isinstance(value, dict):
        return " ".join([*value, *map(str_of, value.values())])
    return " ".join(map(str_of, value)) if isinstance(value, list) else str(value)


def test_training_on_such_names(said, tmp_path):
    words = ["train", "--data", "data", "--model=cyclemlp_nano", "--set=model.overrides.in_chans=3", *TINY]
    code, text, _ = said(*words, "--output", os.fspath(tmp_path / "run"))
    assert code == 0, text
    assert cyclemlp.load_model(tmp_path / "run").metadata.classes == [EVIL, "b"]


def test_a_class_is_named_by_text(tmp_path, said):
    for name in ("a", "b\udce9"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").touch()
    code, text, _ = said("train", "--data", str(tmp_path))
    assert code == 2
    assert "b\\xe9: the folder's name is not UTF-8" in text
