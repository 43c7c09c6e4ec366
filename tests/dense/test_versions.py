"""The check of the engines' versions: what is wrong is said in words."""

from __future__ import annotations

import pytest

from cyclemlp.dense import versions
from cyclemlp.errors import MissingDependencyError

GOOD = {
    "paddlepaddle": "3.3.1",
    "paddleseg": "2.8.0",
    "paddledet": "2.6.0",
    "numpy": "2.3.5",
    "opencv-python-headless": "4.10.0.84",
    "pycocotools": "2.0.8",
    "scikit-learn": "1.5.0",
    "pandas": "2.2.0",
    "matplotlib": "3.9.0",
    "requests": "2.32.0",
    "six": "1.16.0",
}


def test_what_is_installed_here_is_good() -> None:
    assert versions.problems("paddleseg") == []
    assert versions.problems("ppdet") == []
    versions.require("ppdet")
    assert versions.main() == 0


def test_the_tested_set_has_no_problem() -> None:
    assert versions.problems("ppdet", GOOD.get) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"paddledet": None}, "PaddleDetection (package paddledet) is not installed"),
        (
            {"paddledet": "2.4.0"},
            "PaddleDetection is 2.4.0; this project was tested with paddledet<2.7,>=2.6.0",
        ),
        ({"numpy": "2.4.1"}, "numpy is 2.4.1; PaddleDetection works with numpy<2.4,>=1.24"),
        ({"paddlepaddle": "2.6.2"}, "paddlepaddle is 2.6.2; PaddleDetection works with paddlepaddle<4,>=3.0"),
        ({"pycocotools": None}, "pycocotools is not installed"),
    ],
)
def test_each_problem_is_a_sentence(change: dict[str, str | None], sentence: str) -> None:
    assert versions.problems("ppdet", {**GOOD, **change}.get) == [sentence]


def test_a_local_version_such_as_a_gpu_builds_counts_as_its_release() -> None:
    assert versions.problems("ppdet", {**GOOD, "paddlepaddle": "3.1.0+cu126"}.get) == []


def test_every_problem_and_the_way_out_in_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions.metadata, "version", _nothing_installed)
    with pytest.raises(
        MissingDependencyError, match=r"paddleseg\) is not installed.*numpy is not.*make dense"
    ):
        versions.require("paddleseg")
    assert versions.main() == 1


def _nothing_installed(name: str) -> str:
    raise versions.metadata.PackageNotFoundError(name)
