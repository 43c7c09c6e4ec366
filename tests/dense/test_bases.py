"""Where the bases of a configuration are found, for both engines alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cyclemlp.dense.bases import find_base, read_with_bases, shipped_folder
from cyclemlp.errors import ConfigError


def merged(values: dict[str, Any], bases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {k: v for part in (*bases, values) for k, v in part.items()}


def read(path: Path, shipped: Path) -> dict[str, Any]:
    return read_with_bases(path, key="_BASE_", shipped=shipped, merge=merged)


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    folder = tmp_path / "shipped"
    folder.mkdir()
    (folder / "_base.yaml").write_text("a: 1\nb: 1")
    (folder / "_other.yaml").write_text("_BASE_: _base.yaml\nb: 2")
    return folder


def test_own_folder_comes_first_then_the_shipped_one(tmp_path: Path, shipped: Path) -> None:
    own = tmp_path / "own" / "mine.yaml"
    own.parent.mkdir()
    own.write_text("_BASE_: [_other.yaml]\nc: 3")
    assert read(own, shipped) == {"a": 1, "b": 2, "c": 3}
    (own.parent / "_other.yaml").write_text("_BASE_: _base.yaml\nb: 20")  # whose base is a shipped one
    assert read(own, shipped) == {"a": 1, "b": 20, "c": 3}
    (own.parent / "_base.yaml").write_text("a: 10")
    assert read(own, shipped) == {"a": 10, "b": 20, "c": 3}


def test_a_path_that_was_right_in_the_repository_stays_right(tmp_path: Path, shipped: Path) -> None:
    path = tmp_path / "mine.yaml"
    for base in ("configs/det/_base.yaml", "../shipped/_base.yaml", str(shipped / "_base.yaml")):
        assert find_base(base, path, shipped).read_text() == "a: 1\nb: 1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "_BASE_: _bse.yaml",
            r"m\.yaml: its base '_bse\.yaml' does not exist: neither .*own/_bse\.yaml, nor .*_base",
        ),
        ("_BASE_: m.yaml", r"builds on itself.*m\.yaml → m\.yaml"),
        ("_BASE_: 5", r"m\.yaml: _BASE_ is 5; expected a file name"),
        ("_BASE_: [{a: 1}]", r"expected a file name"),
        ("", r"m\.yaml: holds None; a configuration is a mapping"),
        ("a: !!python/object/apply:os.getcwd []", r"m\.yaml: not YAML that can be used"),
        ("a: [1\nb", r"m\.yaml:2: not YAML"),
        ("a: " + "[" * 100, r"m\.yaml.*nested more than"),
        ("a: 1\na: 2", r"m\.yaml:2: the key 'a' stands twice"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, shipped: Path, text: str, says: str) -> None:
    path = tmp_path / "own" / "m.yaml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read(path, shipped)


def test_a_number_with_an_exponent_is_a_number(tmp_path: Path, shipped: Path) -> None:
    (tmp_path / "m.yaml").write_text("a: 1e-4\nb: 2E3")
    assert read(tmp_path / "m.yaml", shipped) == {"a": 1e-4, "b": 2000.0}


def test_a_base_is_read_within_the_same_bounds(tmp_path: Path, shipped: Path) -> None:
    (shipped / "_base.yaml").write_text("a: 1\na: 2")
    (tmp_path / "m.yaml").write_text("_BASE_: _base.yaml")
    with pytest.raises(ConfigError, match=r"shipped/_base\.yaml:2: the key 'a' stands twice"):
        read(tmp_path / "m.yaml", shipped)


def test_copies_of_shipped_configurations_are_read_elsewhere(tmp_path: Path) -> None:
    import cyclemlp.dense.seg  # noqa: F401
    from cyclemlp.dense.det.configuration import Configuration
    from cyclemlp.dense.seg.config import open_config

    for engine in ("det", "seg"):
        source = shipped_folder(engine) / "own_data.yaml"
        copy = tmp_path / f"{engine}.yaml"
        copy.write_text(source.read_text())
        if engine == "det":
            assert Configuration.load(copy).values == Configuration.load(source).values
        else:
            assert open_config(copy).dic == open_config(source).dic
