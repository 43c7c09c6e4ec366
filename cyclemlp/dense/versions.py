"""The engines, PaddleSeg and PaddleDetection: which versions are known to work, and what is wrong in words.

Their pins contradict each other and Paddle 3, so they are no extra of this package: `make dense` installs them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from packaging.specifiers import SpecifierSet

from cyclemlp.errors import MissingDependencyError
from cyclemlp.shipped import shipped_path


@dataclass(frozen=True)
class Engine:
    """One of the two libraries.

    Attributes:
        module: what Python imports.
        package: what pip installs.
        title: its name in messages.
        versions: those that this project was tested with.
    """

    module: str
    package: str
    title: str
    versions: SpecifierSet


ENGINES = {
    "paddleseg": Engine("paddleseg", "paddleseg", "PaddleSeg", SpecifierSet(">=2.8.0,<2.9")),
    "ppdet": Engine("ppdet", "paddledet", "PaddleDetection", SpecifierSet(">=2.6.0,<2.7")),
}

#: What the engines import of others at the versions above, with the version that breaks something.
NEEDED = {
    "paddlepaddle": SpecifierSet(">=3.0,<4"),
    "numpy": SpecifierSet(">=1.24,<2.4"),
    "opencv-python-headless": SpecifierSet(">=4.8"),
    "pycocotools": SpecifierSet(">=2.0.7"),
    "scikit-learn": SpecifierSet(">=1.3"),
    "pandas": SpecifierSet(">=1.5"),
    "matplotlib": SpecifierSet(">=3.7"),
    "requests": SpecifierSet(""),
    "six": SpecifierSet(""),
}
#: The same library under other names.
_ALSO = {
    "paddlepaddle": ("paddlepaddle-gpu",),
    "opencv-python-headless": (
        "opencv-python",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
}

HOW_TO_INSTALL = (
    "from a clone of this project, `make dense` installs what is tested together; elsewhere: "
    f"`pip install -r {shipped_path('requirements/dense.txt')}` and then "
    f"`pip install --no-deps -r {shipped_path('requirements/dense-engines.txt')}`"
)


def installed_version(package: str) -> str | None:
    """Version of an installed package, under any of its names; None if there is none."""
    for name in (package, *_ALSO.get(package, ())):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def problems(engine: str, version_of: Callable[[str], str | None] = installed_version) -> list[str]:
    """What keeps an engine from working, a sentence each; empty if nothing does.

    Args:
        engine: "paddleseg" or "ppdet".
        version_of: package name → installed version, or None.
    """
    wanted = ENGINES[engine]
    found = []
    version = version_of(wanted.package)
    if version is None:
        found.append(f"{wanted.title} (package {wanted.package}) is not installed")
    elif version not in wanted.versions:
        found.append(
            f"{wanted.title} is {version}; this project was tested with {wanted.package}{wanted.versions}"
        )
    for package, versions in NEEDED.items():
        version = version_of(package)
        if version is None:
            found.append(f"{package} is not installed")
        elif version.split("+")[0] not in versions:
            found.append(f"{package} is {version}; {wanted.title} works with {package}{versions}")
    return found


def require(engine: str) -> None:
    """Raise MissingDependencyError, with every problem and the way out, if an engine cannot be used.

    Args:
        engine: "paddleseg" or "ppdet".
    """
    found = problems(engine)
    if importlib.util.find_spec(engine) is None and not found:
        found.append(f"Python finds no module {engine}, although its package is installed")
    if found:
        raise MissingDependencyError("; ".join(found) + f". {HOW_TO_INSTALL}")


def main() -> int:
    """`python -m cyclemlp.dense.versions`: the check of `make dense`; prints and returns an exit code."""
    found = {sentence: None for engine in ENGINES for sentence in problems(engine)}  # each once, in order
    for sentence in found:
        print(f"make dense: {sentence}")
    if found:
        print(f"make dense: {HOW_TO_INSTALL}")
        return 1
    names = ["paddlepaddle", *(engine.package for engine in ENGINES.values())]
    print("dense prediction is ready: " + ", ".join(f"{n} {installed_version(n)}" for n in names))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
