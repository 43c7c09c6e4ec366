"""How long does a list of ImageNet's size take to open, and how much memory does it hold?

    python benchmarks/list_open.py [--lines 1281167]

Writes a list with names like ImageNet's to a temporary folder and opens it, checks the last line, then does the
same with a plain loop into a Python list of (name, label). Prints seconds, the least of three runs, and what each
keeps in memory. The images need not exist: opening looks at none.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cyclemlp.data import ListFile


def plain(path: Path) -> list[tuple[str, int]]:
    pairs = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            name, label = line.rsplit(None, 1)
            pairs.append((name, int(label)))
    return pairs


def measure(make: Callable[[], Any]) -> tuple[float, float]:
    """(seconds, MiB kept)."""
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        make()
        seconds.append(time.perf_counter() - begin)
    tracemalloc.start()
    kept = make()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return min(seconds), size / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--lines", type=int, default=1_281_167, help="default: %(default)s, ImageNet's train set"
    )
    lines = parser.parse_args().lines
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "train.txt")
        with path.open("w", encoding="utf-8") as file:
            for i in range(lines):
                label = i * 1000 // lines
                file.write(f"train/n{label:08d}/n{label:08d}_{i}.JPEG {label}\n")
        source = ListFile(folder, path, mode="train")
        last = lines - 1
        assert len(source) == lines
        assert (
            source.name(last) == f"train/n{last * 1000 // lines:08d}/n{last * 1000 // lines:08d}_{last}.JPEG"
        )
        assert source.location(last) == f"{path}:{lines}"
        print(f"{lines:,} lines, {path.stat().st_size / 2**20:.0f} MiB")
        ours, ours_mib = measure(lambda: ListFile(folder, path, mode="train"))
        theirs, theirs_mib = measure(lambda: plain(path))
    print(f"ListFile, every line checked   {ours:5.2f} s   {ours_mib:4.0f} MiB kept")
    print(f"list of (name, label)          {theirs:5.2f} s   {theirs_mib:4.0f} MiB kept")
    print(f"ratio                          {ours / theirs:5.2f}     {ours_mib / theirs_mib:4.2f}")


if __name__ == "__main__":
    main()
