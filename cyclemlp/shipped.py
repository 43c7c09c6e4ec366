"""Files that come with the package beside its modules: the configurations, and what the dense engines need.

The wheel holds them inside the package. In a clone they are at its root, where an editable install reads them.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from cyclemlp.errors import ConfigError

CONFIGS = "configs"


def shipped_path(name: str) -> Path:
    """Where a file or folder that comes with the package is.

    Args:
        name: relative to the repository's root: "configs", "requirements/dense.txt".
    """
    package = Path(__file__).parent
    inside = package / name
    return inside if inside.exists() else package.parent / name


def shipped_configs() -> list[str]:
    """The configurations that come with the package, as `--config` takes them; without those that are only bases."""
    folder = shipped_path(CONFIGS)
    names = (
        path.relative_to(folder.parent).as_posix() for path in folder.rglob("*.yaml") if path.name[0] != "_"
    )
    return sorted(names)


def find_config(path: Path) -> Path:
    """The file that `--config` means: the path itself, else for configs/… the one that comes with the package.

    Raises:
        ConfigError: neither is there; the message names the nearest one that comes with the package.
    """
    if path.exists():
        return path
    if not path.is_absolute() and path.parts[:1] == (CONFIGS,):
        found = shipped_path(path.as_posix())
        if found.is_file():
            return found
    known = shipped_configs()
    near = [name for name in known if Path(name).stem == path.stem] or difflib.get_close_matches(
        path.as_posix(), known, n=1
    )
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(
        f"{path}: there is no such file; {hint}The configurations that come with the package are found by --config "
        f"{CONFIGS}/… from any folder, and lie in {shipped_path(CONFIGS)}"
    )
