"""Every Python block of the documentation is Python, and the names of this package that it uses exist.

Blocks of tutorials run (test_tutorials.py), as those of some pages do (test_readme.py); the others cannot: they need
what a reader has.
"""

from __future__ import annotations

import ast
import importlib
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(block, id=f"{path.relative_to(ROOT)}:{number}")
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
    if path.name
    not in ("CHANGELOG.md", "CONTRIBUTING.md")  # of what was; an example that is yet to be written
    for number, block in enumerate(BLOCK.findall(path.read_text(encoding="utf-8")), 1)
]


def names_used(tree: ast.AST) -> list[tuple[str, str]]:
    """(module, name) of what a program takes from this package."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cyclemlp":
            found += [(str(node.module), alias.name) for alias in node.names]
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "cyclemlp"
        ):
            found.append(("cyclemlp", node.attr))
    return found


def test_blocks_are_found():
    assert len(BLOCKS) > 30


@pytest.mark.parametrize("block", BLOCKS)
def test_it_is_python_and_its_names_exist(block):
    tree = ast.parse(textwrap.dedent(block))
    for module, name in names_used(tree):
        try:
            found = hasattr(importlib.import_module(module), name)
        except ImportError:
            found = False
        if not found:  # a module that nothing has imported yet
            importlib.import_module(f"{module}.{name}")
