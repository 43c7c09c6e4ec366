"""Runs a notebook from its first cell to its last and writes its outputs into it, for readers who do not run it.

    python examples/run_notebook.py                  examples/from_images_to_service.ipynb, in its own folder
    python examples/run_notebook.py OTHER.ipynb

`jupyter execute --inplace` does nearly the same, but it also writes the time of each cell, so that no two are equal.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).with_name("from_images_to_service.ipynb")


def run(path: Path, folder: Path | None = None) -> nbformat.NotebookNode:
    """Run a notebook and return it with its outputs; the file stays as it is.

    Args:
        path: the notebook.
        folder: where its program runs; None for the notebook's own folder.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails; the message holds the cell and what it raised.
    """
    notebook = nbformat.read(path, as_version=4)
    told = notebook.metadata
    client = NotebookClient(
        notebook,
        timeout=3600,  # seconds, of a cell: also on a machine that is busy with something else
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder or path.parent)}},
    )
    client.execute()
    # The version of the Python that happened to run it is no part of the notebook.
    notebook.metadata = {"kernelspec": told["kernelspec"], "language_info": {"name": "python"}}
    return notebook


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", nargs="?", type=Path, default=NOTEBOOK, metavar="NOTEBOOK")
    path = parser.parse_args().notebook
    nbformat.write(run(path), path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
