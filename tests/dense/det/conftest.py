"""The engine as our commands patch it, a tiny data set, and an empty current folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dense.det.tiny_coco import make_tiny_coco

import cyclemlp.dense.det  # noqa: F401  before a test module imports the engine, which loosens Pillow
from cyclemlp.dense.compat import apply_patches


@pytest.fixture(scope="session", autouse=True)
def _patched() -> None:
    """As our own commands do."""
    apply_patches("ppdet")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a data set of six images, the last without an object."""
    return make_tiny_coco(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In an empty folder, which must be empty afterwards: the engine likes to write into the current one."""
    here = tmp_path / "current"
    here.mkdir()
    monkeypatch.chdir(here)
    yield
    assert list(here.iterdir()) == []
