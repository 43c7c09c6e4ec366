"""How long does a training tar of ImageNet's size take to open, and what does an image read from it cost?

    python benchmarks/tar_open.py [--images 1281167]

Writes a tar of 1000 tars with as many entries as ImageNet's has, each one small JPEG, to a temporary folder (1.9 GB),
and opens it: first from header to header, then by the index that was kept. Reads images at random from it, and the
same ones from files. The real tar has 138 GB: there the first look also waits for the disk, once an image.
"""

from __future__ import annotations

import argparse
import io
import os
import pickle
import resource
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from cyclemlp.data import ListFile, TarFolders, imagenet_class_map

READS = 2000


def write(path: Path, images: int) -> bytes:
    """The tar; returns the image that is everywhere in it."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    content = file.getvalue()
    padding = bytes(-len(content) % 512)
    ids = sorted(imagenet_class_map())
    with path.open("wb") as out:
        for number, wordnet_id in enumerate(ids):
            count = images * (number + 1) // len(ids) - images * number // len(ids)
            info = tarfile.TarInfo(f"{wordnet_id}.tar")
            info.size = count * (512 + len(content) + len(padding)) + 1024
            out.write(info.tobuf())
            for i in range(count):
                inner = tarfile.TarInfo(f"{wordnet_id}_{i}.JPEG")
                inner.size = len(content)
                out.write(inner.tobuf() + content + padding)
            out.write(bytes(1024))
        out.write(bytes(1024))
    return content


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1_281_167, help="default: %(default)s")
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CYCLEMLP_HOME"] = f"{folder}/cache"
        path = Path(folder, "ILSVRC2012_img_train.tar")
        content = write(path, images)
        print(f"{images:,} images, {path.stat().st_size / 2**30:.1f} GiB")
        for what in ("first", "again"):
            begin = time.process_time()
            source = TarFolders(path)
            print(f"opened, {what}   {time.process_time() - begin:6.1f} s of one core")
        assert (len(source), source.num_classes) == (images, 1000)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        print(f"handed to a worker  {len(pickle.dumps(source)) / 2**20:4.0f} MiB; peak memory {peak:.0f} MiB")

        chosen = np.random.default_rng(0).integers(0, images, READS)
        names = [f"{i}.JPEG" for i in range(READS)]
        for name in names:
            Path(folder, name).write_bytes(content)
        listed = Path(folder, "list.txt")
        listed.write_text("".join(f"{name} 0\n" for name in names))
        files = ListFile(folder, listed)
        seconds = {}
        for what, read in (("tar", lambda i: source.file(int(chosen[i]))), ("files", files.file)) * 2:
            begin = time.perf_counter()
            for i in range(READS):
                read(i)
            seconds[what] = min(seconds.get(what, np.inf), time.perf_counter() - begin)
        tar, single = (1e6 * seconds[what] / READS for what in ("tar", "files"))
        print(
            f"an image opened    {tar:4.0f} µs from the tar, {single:4.0f} µs from a file: {tar / single:.2f}"
        )


if __name__ == "__main__":
    main()
