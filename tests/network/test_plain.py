"""The room of the network is the paper: no word in it about processors, devices or tracing."""

import ast
from pathlib import Path

import cyclemlp.network

ROOM = Path(cyclemlp.network.__file__).parent
#: What code asks that decides by where or how it runs.
ASKED = {
    "in_dynamic_mode",
    "in_pir_mode",
    "place",
    "is_cpu_place",
    "get_device",
    "is_compiled_with_cuda",
    "marker",
}


def test_nothing_asks_where_it_runs():
    asked = [
        (path.name, node.attr)
        for path in sorted(ROOM.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ASKED
    ]
    assert asked == []


def test_the_paper_is_one_file():
    assert len((ROOM / "cyclemlp.py").read_text(encoding="utf-8").splitlines()) < 300
