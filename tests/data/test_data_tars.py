"""Tars read in place: what is in them, in which order, and every way in which they can be broken."""

from __future__ import annotations

import copy
import io
import os
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagenet_fixtures as stand_in
import numpy as np
import pytest

from cyclemlp.data import ImageFolder, ListFile, TarFolders, TarImages, TarListFile, open_source
from cyclemlp.data import tars as tars_module
from cyclemlp.data.tars import Tar
from cyclemlp.errors import DataError

IMAGE = stand_in.image(1)
CLASSES = {
    "a/2.jpg": stand_in.image(2),
    "a/b/1.png": stand_in.image(3),
    "a-b/1.jpg": stand_in.image(4),
    "ö/ä b.jpg": stand_in.image(5),
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CYCLEMLP_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/tars"


def described(source):
    return [(source.name(i), source.label(i), source[i].image.tobytes()) for i in range(len(source))]


@pytest.mark.parametrize("prefix", ["", "./", "photos/", "./deep/er/"])
def test_folders_in_a_tar_are_folders(tmp_path, prefix):
    stand_in.write_files(tmp_path / "unpacked", CLASSES)
    path = stand_in.write_tar(
        tmp_path / "x.tar", {prefix + name: CLASSES[name] for name in reversed(CLASSES)}
    )
    source, folder = TarFolders(path), ImageFolder(tmp_path / "unpacked")
    shown = prefix.removeprefix("./")
    assert described(source) == [(shown + name, *rest) for name, *rest in described(folder)]
    assert source.classes == folder.classes == ["a", "a-b", "ö"]
    assert source.location(0) == str(path / shown / "a/2.jpg")
    mapped = TarFolders(path, class_map={"ö": 0, "a": 1, "a-b": 2, "other": 3})
    assert [mapped.label(i) for i in range(4)] == [1, 1, 2, 0]
    assert mapped.num_classes == 4
    with pytest.raises(DataError, match="2 of 3 folders are not in the class map: a-b, ö"):
        TarFolders(path, class_map={"a": 0})


def test_one_class_and_images_outside(tmp_path):
    one = stand_in.write_tar(tmp_path / "one.tar", {"all/cat/1.jpg": IMAGE, "all/cat/2.jpg": IMAGE})
    assert TarFolders(one).classes == ["cat"]
    files = {
        "cat/1.jpg": IMAGE,
        "dog/1.jpg": IMAGE,
        "2.jpg": IMAGE,
        "read.me": b"",
        "cat/.hidden.jpg": b"",
    }
    with pytest.warns(
        UserWarning, match="passed over 2 files that are no images: 1 .me, 1 outside the class"
    ):
        source = TarFolders(stand_in.write_tar(tmp_path / "x.tar", files))
    assert [source.name(i) for i in range(len(source))] == ["cat/1.jpg", "dog/1.jpg"]
    with pytest.raises(DataError, match="holds images but no folders"):
        TarFolders(stand_in.write_tar(tmp_path / "flat.tar", {"1.jpg": IMAGE}))
    with pytest.raises(DataError, match="holds no images"):
        TarImages(stand_in.write_tar(tmp_path / "none.tar", {"1.txt": b"x"}))


def test_the_sample_of_cifar10_comes_with_the_package():
    source = open_source("cifar10-sample", mode="val")
    assert source.classes == [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
    labels = [source.label(i) for i in range(len(source))]
    assert np.bincount(labels).tolist() == [20] * 10
    assert {source[i].image.size for i in range(len(source))} == {(32, 32)}


def test_a_list_names_what_is_in_a_tar(tmp_path):
    stand_in.write_files(tmp_path / "unpacked", CLASSES)
    path, listed = stand_in.write_tar(tmp_path / "x.tar", CLASSES), tmp_path / "list.txt"
    listed.write_text("ö/ä b.jpg 1\n\n./a/2.jpg 0\n")
    source = TarListFile(path, listed, mode="val", num_classes=2)
    folder = ListFile(tmp_path / "unpacked", listed, mode="val")
    assert [row[1:] for row in described(source)] == [row[1:] for row in described(folder)]
    assert source.location(1) == f"{listed}:3"
    listed.write_text("a/2.jpg 0\na/3.jpg 0\n")
    with pytest.raises(
        DataError, match=r"list.txt:2: 'a/3.jpg' is not in .*x.tar, which has names such as 'a-b/1"
    ):
        TarListFile(path, listed, mode="val")
    with pytest.raises(DataError, match=r"list.txt:1: 'a/2.jpg 0' is not in .*the whole line is the name"):
        TarListFile(path, listed, mode="test")


def test_long_names_and_archives_of_gnu_and_pax(tmp_path):
    name = "ü" * 80 + "/" + "x" * 120 + ".jpg"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "x.tar", "w", format=form) as tar:
            info = tarfile.TarInfo(name)
            info.size = len(IMAGE)
            tar.addfile(info, io.BytesIO(IMAGE))
        found = Tar(tmp_path / "x.tar")
        assert (found.names[0], found.read(0)) == (name, IMAGE)


def outer(inner: bytes) -> dict[str, bytes]:
    return {
        "a.tar": stand_in.tar_of({"1.jpg": IMAGE}),
        "b.tar": inner,
        "c.tar": stand_in.tar_of({"1.jpg": IMAGE}),
    }


def blocks(content: bytes) -> int:
    """Bytes that a file of this content takes in a tar, with its header."""
    return 512 + -(-len(content) // 512) * 512


TWO = stand_in.tar_of({"1.jpg": IMAGE, "2.jpg": IMAGE})
BROKEN = {
    "cut in an image": (TWO[: blocks(IMAGE) + 600], "cut off"),
    "cut in a header": (TWO[: blocks(IMAGE) + 100], "cut off|damaged"),
    "cut between images": (TWO[: blocks(IMAGE)], "is cut off after '1.jpg': a tar's end mark is missing"),
    "a damaged header": (
        TWO[: blocks(IMAGE)] + b"\x07" * 512 + TWO[blocks(IMAGE) + 512 :],
        f"is damaged at byte {blocks(IMAGE)}, after '1.jpg'",
    ),
    "no tar": (b"<html>not found</html>" * 100, "is no tar"),
    "empty": (b"", "is no tar"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_tar_is_refused(tmp_path, fault):
    content, words = BROKEN[fault]
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(DataError, match=rf"x.tar: .*({words})"):
        Tar(tmp_path / "x.tar")


@pytest.mark.parametrize("fault", [fault for fault in BROKEN if fault not in ("a damaged header",)])
def test_a_broken_tar_in_a_tar_is_refused_and_named(tmp_path, fault):
    stand_in.write_tar(tmp_path / "x.tar", outer(BROKEN[fault][0]))
    with pytest.raises(DataError, match=r"x.tar: b.tar: .*(cut off|damaged|no tar)"):
        Tar(tmp_path / "x.tar")


def test_what_cannot_be_read_in_place_is_refused(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("cat/1.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "2.jpg"
        tar.addfile(link)
    with pytest.raises(DataError, match=r"'cat/1.jpg' is a link"):
        Tar(path)
    for name in ("x.tar.gz", "x.TGZ", "x.zip"):
        with pytest.raises(DataError, match="is compressed"):
            Tar(tmp_path / name)
    with pytest.raises(DataError, match=r"missing.tar: cannot be read: No such file"):
        Tar(tmp_path / "missing.tar")
    stand_in.write_tar(path, {"1.jpg": IMAGE})
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo("1.jpg"))
    with pytest.raises(DataError, match=r"holds '1.jpg' twice"):
        Tar(path)


def test_what_was_found_is_kept_until_the_tar_changes(tmp_path, cache, monkeypatch):
    path = stand_in.write_tar(tmp_path / "x.tar", CLASSES)
    first = Tar(path)
    (kept,) = cache.iterdir()
    monkeypatch.setattr(tars_module, "_look_through", None)  # calling it would fail
    second = Tar(path)
    assert [second.names[i] for i in range(4)] == [first.names[i] for i in range(4)]
    assert all(first.read(i) == second.read(i) == CLASSES[first.names[i]] for i in range(4))
    monkeypatch.undo()
    monkeypatch.setenv("CYCLEMLP_HOME", str(cache.parent))
    for damaged in (b"", b"PK\3\4", kept.read_bytes()[:-40]):
        kept.write_bytes(damaged)
        assert len(Tar(path)) == 4
    stand_in.write_tar(path, {"new/1.jpg": IMAGE})
    assert [Tar(path).names[0], len(Tar(path))] == ["new/1.jpg", 1]
    assert [file.name for file in cache.iterdir()] == [kept.name]


def test_a_tar_that_shrinks_while_it_is_read(tmp_path):
    path = stand_in.write_tar(tmp_path / "x.tar", CLASSES)
    source = TarFolders(path)
    assert source[0].label == 0
    os.truncate(path, 600)
    with pytest.raises(DataError, match="the file has changed since it was opened"):
        source[0]


def test_threads_that_open_a_tar_at_once_read_it(tmp_path, monkeypatch):
    stand_in.write_tar(tmp_path / "a.tar", {f"a/{i}.jpg": bytes([i]) * 100 for i in range(16)})
    tar, interval, open_path = Tar(tmp_path / "a.tar"), sys.getswitchinterval(), Path.open

    def slow_open(*arguments, **options):
        time.sleep(0.002)  # until all threads wait for it
        return open_path(*arguments, **options)

    monkeypatch.setattr(Path, "open", slow_open)
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(16) as pool:
            for _ in range(200):
                fresh = copy.copy(tar)  # not opened yet
                contents = list(pool.map(fresh.read, range(16)))
                assert [content[0] for content in contents] == [int(name[2:-4]) for name in fresh.names]
    finally:
        sys.setswitchinterval(interval)


def test_a_cache_that_cannot_be_written_is_said(tmp_path, cache):
    cache.parent.write_text("a file, not a folder")
    with pytest.warns(UserWarning, match="looked through each time; set CYCLEMLP_HOME"):
        assert len(Tar(stand_in.write_tar(tmp_path / "x.tar", CLASSES))) == 4


def test_images_that_cannot_be_decoded_are_named(tmp_path):
    source = TarImages(stand_in.write_tar(tmp_path / "x.tar", {"1.jpg": IMAGE, "2.jpg": IMAGE[:200]}))
    assert np.asarray(source[0].image).shape == (32, 32, 3)
    with pytest.raises(DataError, match=r"the image '.*x.tar/2.jpg' cannot be decoded"):
        source[1]
