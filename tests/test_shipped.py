"""The wheel without a clone: the configurations are in it, and the commands find them from any folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cyclemlp.errors import ConfigError
from cyclemlp.shipped import find_config, shipped_configs

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built and unpacked as pip does it."""
    folder = tmp_path_factory.mktemp("wheel")
    build = f"import hatchling.build as build; build.build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def run(installed: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cyclemlp", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_holds_every_configuration_and_what_the_engines_need(installed: Path) -> None:
    for folder in ("configs", "requirements"):
        ours = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
        theirs = {
            path.relative_to(installed / "cyclemlp")
            for path in (installed / "cyclemlp" / folder).rglob("*.*")
        }
        assert {path for path in ours if path.name != "fuzz.txt"} == {p for p in theirs if p.suffix}
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"cyclemlp"}


def test_a_recipe_is_read_from_the_installed_package_and_said(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "train", "--config", "configs/digits.yaml", "--show-recipe")
    assert done.returncode == 0, done.stderr
    assert "name: cyclemlp_nano" in done.stdout
    assert f"read from the installed package, {installed}" in done.stderr
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "digits.yaml").write_text("model: {name: cyclemlp_micro}")
    done = run(installed, tmp_path, "train", "--config", "configs/digits.yaml", "--show-recipe")
    assert "name: cyclemlp_micro" in done.stdout  # one's own comes first
    assert "installed package" not in done.stderr


@pytest.mark.parametrize(
    ("engine", "base"),
    [("seg", "_base_: configs/seg/own_data.yaml"), ("det", "_BASE_: [configs/det/own_data.yaml]")],
)
def test_a_configuration_of_an_engine_and_a_base_are_read_from_there_too(
    installed: Path, tmp_path: Path, engine: str, base: str
) -> None:
    done = run(installed, tmp_path, engine, "check", "--config", f"configs/{engine}/own_data.yaml")
    assert f"read from the installed package, {installed}" in done.stderr
    assert "put the data there" in done.stderr  # found, but not the data that it names
    (tmp_path / "mine.yaml").write_text(base)
    done = run(installed, tmp_path, engine, "check", "--config", "mine.yaml")
    assert "put the data there" in done.stderr
    assert "its base" not in done.stderr


def test_a_configuration_that_is_nowhere_is_an_error_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("did you mean configs/own_folder_small.yaml?")):
        find_config(Path("configs/own_folder_smal.yaml"))
    with pytest.raises(ConfigError, match=re.escape("did you mean configs/det/bccd.yaml?")):
        find_config(Path("bccd"))
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path}/q.yaml: there is no such file")):
        find_config(tmp_path / "q.yaml")
    assert "configs/digits.yaml" in shipped_configs()
    assert "configs/det/_bccd.yaml" not in shipped_configs()  # a base only
