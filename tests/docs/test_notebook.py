"""The notebook runs from its first cell to its last, and what is stored in it is what it gives."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest
from markdown_links import broken_links

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "from_images_to_service.ipynb"


@pytest.fixture(scope="module")
def stored():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("run_notebook", ROOT / "examples" / "run_notebook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(cell):
    """The text that a cell printed or gave, without what depends on the machine: every number and duration is a #."""
    text = "".join(output.get("text") or output.data.get("text/plain", "") for output in cell.outputs)
    text = re.sub(r" +best\n", "\n", re.sub(r"\d+ (h|min) \d+ (min|s)", "0 s", text))
    return re.sub(r" +", " ", re.sub(r"\d+(\.\d+)?(e-\d+)?", "#", text))


def images_of(cell):
    return [
        (kind, data)
        for output in cell.outputs
        for kind, data in output.get("data", {}).items()
        if kind.startswith("image/")
    ]


def test_it_is_stored_as_it_ran(stored):
    nbformat.validate(stored)
    cells = code_cells(stored)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert all(cell.metadata == {} for cell in cells)
    images = [image for cell in cells for image in images_of(cell)]
    assert len(images) == 5  # samples, curves, confusion, mistakes, Grad-CAM
    assert max(len(data) for _, data in images) < 200_000
    assert NOTEBOOK.stat().st_size < 500_000


def test_nothing_of_the_machine_is_stored(stored):
    """No path, no name: a reader's machine is another."""
    text = "".join(text_of(cell) for cell in code_cells(stored))
    assert not re.findall(r"(?:^|[\s'\"(])/\w+/", text)
    assert "Warning" not in text
    assert set(stored.metadata) == {"kernelspec", "language_info"}
    assert stored.metadata.language_info == {"name": "python"}


def test_its_links_lead_somewhere(stored):
    text = "".join(cell.source for cell in stored.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert broken_links(NOTEBOOK, links) == []


@pytest.mark.heavy
def test_it_runs_and_gives_what_is_stored(stored, program, tmp_path):
    ran = program.run(NOTEBOOK, tmp_path)
    for cell, before in zip(code_cells(ran), code_cells(stored), strict=True):
        assert text_of(cell) == text_of(before), cell.id
        assert [kind for kind, _ in images_of(cell)] == [kind for kind, _ in images_of(before)], cell.id
    printed = {
        cell.id: "".join(output.get("text", "") for output in cell.outputs) for cell in code_cells(ran)
    }
    assert float(re.search(r"top-1 ([\d.]+) %", printed["evaluate"])[1]) > 95
    assert printed["stop"] == "cyclemlp serve: ended with exit code 0\n"
    assert int(re.search(r"(\d+) of 10 right", printed["ask"])[1]) >= 8
    assert (tmp_path / "runs" / "notebook" / "exported" / "model.onnx").is_file()
