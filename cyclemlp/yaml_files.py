"""YAML that people write, read within bounds: the one reader of recipes, of `--set`, and of configurations.

PyYAML's safe loader calls nothing, but it recurses as deep as a text nests, expands what aliases multiply, lets Python
convert a number of millions of digits, and takes the last of two values with the same key. Here each of them is an
error of one line that names the place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cyclemlp.errors import ConfigError
from cyclemlp.text import counted, printable, shortened, shown

#: A recipe has 2 KB; a list of all of a data set's files does not belong in one.
MAX_BYTES = 1 << 18
MAX_DEPTH = 20
#: Scalars, lists and mappings, those of aliases counted each time.
MAX_NODES = 20_000
#: Characters of a number.
MAX_DIGITS = 100
#: Characters of an error of PyYAML's that are shown.
MAX_PROBLEM = 200

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_MERGE = "tag:yaml.org,2002:merge"
#: YAML 1.2's numbers that 1.1 takes for text: without a point, or without a sign in the exponent.
EXPONENT = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$")


def read_yaml_with_lines(path: str | os.PathLike[str]) -> tuple[Any, Lines]:
    """The value in a YAML file, and the lines of the mappings' keys.

    Raises:
        ConfigError: it is no regular file, cannot be read, is larger than `MAX_BYTES`, or `parse_yaml` refuses it; the
            message names file and line.
    """
    node, value = _load(read_text(path), str(path))
    return value, Lines(node)


class Lines:
    """The lines of a YAML file's keys.

    Args:
        node: the file's root as PyYAML composed it; None for an empty file.
    """

    def __init__(self, node: Any) -> None:
        self._node = node

    def place(self, path: Sequence[str]) -> str:
        """`:12`, the line of the last key of a path that is in the file; empty if none is."""
        node, place = self._node, ""
        for name in path:
            pairs = node.value if isinstance(node, yaml.MappingNode) else ()
            found = next((pair for pair in pairs if pair[0].value == name), None)
            if found is None:
                break
            place, node = f":{found[0].start_mark.line + 1}", found[1]
        return place


def check_yaml(path: str | os.PathLike[str]) -> None:
    """Refuse a file as `read_yaml_with_lines` does, but take any tags, which a library makes its own objects of."""
    _load(read_text(path), str(path), construct=False)


def top_keys(path: str | os.PathLike[str]) -> set[str]:
    """The keys of the mapping that a file is; none of another value. Raises ConfigError as `check_yaml`."""
    node, _ = _load(read_text(path), str(path), construct=False)
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return {key.value for key, _ in pairs if isinstance(key, yaml.ScalarNode)}


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file of at most `MAX_BYTES`. Raises ConfigError as `read_yaml_with_lines`."""
    where = printable(str(path), lines=False)
    try:
        if not Path(path).is_file():  # reading a pipe may never end
            found = "is no file" if Path(path).exists() else "there is no such file"
            raise ConfigError(f"{where}: cannot be read: {found}")
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"{where}: has more than {MAX_BYTES:,} bytes, which is no configuration")
        return content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{where}: cannot be read: {shortened(str(error), MAX_PROBLEM)}") from None


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text.

    `1e-3` is a number, as in YAML 1.2 (in 1.1, PyYAML's, it is text).

    Args:
        text: the YAML.
        where: what it is called in messages, before the line.

    Raises:
        ConfigError: it is not YAML, or is nested, multiplied or large beyond the bounds above, or has a key twice.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{where}: has more than {MAX_BYTES:,} characters, which is no configuration")
    return _load(text, where)[1]


def _load(text: str, where: str, *, construct: bool = True) -> tuple[Any, Any]:
    """The root node, and its value."""
    where = printable(where, lines=False)
    lines = text.count("\n") > 0
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return node, loader.construct_document(node) if construct and node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}" if mark is not None and lines else where
        own = isinstance(error, _BoundError)
        raise ConfigError(
            f"{place}: {'' if own else 'not YAML: '}{_one_line(error.problem or str(error))}"
        ) from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError) as error:
        raise ConfigError(f"{where}: not YAML: {_one_line(str(error))}") from None


def _one_line(text: str) -> str:
    return shortened(printable(" ".join(text.split()), lines=False), MAX_PROBLEM)


class _BoundError(yaml.MarkedYAMLError):
    """YAML, but none that is read here."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader within the bounds."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._nodes = 0
        self._sizes: dict[
            int, int
        ] = {}  # id of a node that has an anchor → nodes in it; absent while it is composed

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark = self.peek_event().start_mark
        before = self._nodes
        if self.check_event(yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self._sizes:
                raise _BoundError("an alias stands within what it names", mark)
            self._count(self._sizes[id(node)], mark)
            return node
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _BoundError(f"nested more than {MAX_DEPTH} deep", mark)
        self._count(1, mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        self._sizes[id(node)] = self._nodes - before
        if isinstance(node, yaml.MappingNode):
            _refuse_twice(node)
        if isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS and len(node.value) > MAX_DIGITS:
            raise _BoundError(f"a number of {counted(len(node.value), 'digit')}", mark)
        return node

    def _count(self, nodes: int, mark: Any) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _BoundError(f"more than {MAX_NODES:,} values, those of aliases counted each time", mark)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:  # 2024-99-99, 0b
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None


def _refuse_twice(node: yaml.MappingNode) -> None:
    """A key that stands twice in a mapping is an error: the second value would silently win."""
    seen: dict[tuple[str, str], int] = {}  # tag and text of a key → its line
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
            named = (key.tag, key.value)
            if named in seen:
                raise _BoundError(
                    f"the key {shown(key.value)} stands twice in one mapping, first in line {seen[named] + 1}",
                    key.start_mark,
                )
            seen[named] = key.start_mark.line


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+0123456789"))
