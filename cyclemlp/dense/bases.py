"""Configurations that build on others: where `_BASE_` (PaddleDetection) and `_base_` (PaddleSeg) are looked for.

The engines look beside the file only, so that a copy of a shipped configuration cannot be read from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from cyclemlp.errors import ConfigError
from cyclemlp.network.config import did_you_mean
from cyclemlp.shipped import CONFIGS, shipped_path
from cyclemlp.text import shown
from cyclemlp.yaml_files import EXPONENT, check_yaml


class _Loader(yaml.FullLoader):
    """With the engines' own tags, and without calling whatever function a tag names, as theirs do."""


# 1e-4 is a number, as in YAML 1.2; in 1.1 it is text, on which the engines stop.
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+0123456789"))

#: Of a base of a base …; the shipped ones are 2 deep.
MAX_DEPTH = 10


def shipped_folder(engine: str) -> Path:
    """The folder of the configurations that come with this project.

    Args:
        engine: "seg" or "det".
    """
    return shipped_path(CONFIGS) / engine


def find_base(base: str, path: Path, shipped: Path) -> Path:
    """The file that a configuration means by a base.

    Args:
        base: as it is written: absolute, from `~`, or relative to the configuration's folder, else to `shipped`.
        path: the configuration.
        shipped: where to look next; where it holds no such path, the base's bare name counts, so that a copy of one
            of these files may keep or lose the folders before it.

    Raises:
        ConfigError: there is no such file.
    """
    named = Path(base).expanduser()
    places = [path.parent / named, shipped / named, shipped / named.name]
    for place in places:
        if place.is_file():
            return place
    known = sorted(p.name for pattern in ("*.yaml", "*.yml") for p in shipped.glob(pattern))
    raise ConfigError(
        f"{path}: its base {shown(base)} does not exist: neither {places[0]}, nor {places[2]} among the shipped "
        f"configurations{did_you_mean(named.name, known)}"
    )


def read_with_bases(
    path: Path,
    *,
    key: str,
    shipped: Path,
    merge: Callable[[dict[str, Any], Sequence[dict[str, Any]]], dict[str, Any]],
    _above: tuple[Path, ...] = (),
) -> dict[str, Any]:
    """The values of a YAML file and of those that it builds on.

    Args:
        path: the file.
        key: "_BASE_" or "_base_": a path or a list of paths.
        shipped: where bases are looked for that are not beside the file.
        merge: a file's own values, and those of its bases in their order → all of them, by the engine's rules.

    Raises:
        ConfigError: a file is not YAML or no mapping, a base does not exist or builds on itself.
    """
    if path.resolve() in _above or len(_above) >= MAX_DEPTH:
        files = " → ".join(p.name for p in (*_above, path))
        raise ConfigError(f"{path}: it builds on itself, or on too many others: {files}")
    check_yaml(path)
    try:
        values = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:  # tags of the engine's own objects
        raise ConfigError(f"{path}: not YAML that can be used: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds {shown(values)}; a configuration is a mapping of keys to values")
    bases = values.pop(key, None)
    named = [bases] if isinstance(bases, str) else bases or []
    if not isinstance(named, list) or not all(isinstance(base, str) for base in named):
        raise ConfigError(f"{path}: {key} is {shown(bases)}; expected a file name, or a list of them")
    found = [
        read_with_bases(
            find_base(base, path, shipped),
            key=key,
            shipped=shipped,
            merge=merge,
            _above=(*_above, path.resolve()),
        )
        for base in named
    ]
    return merge(values, found)
