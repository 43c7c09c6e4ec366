"""Files and folders are written whole or not at all, and errors of the disk name them."""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cyclemlp.files import (
    file_sha256,
    is_partial,
    recover_folder,
    replacing,
    replacing_folder,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_takes_its_place_at_the_end(tmp_path, durable):
    path = tmp_path / "figure.svg"
    path.write_text("old")
    with replacing(path, durable=durable) as part:
        part.write_text("new")
        assert part.parent == tmp_path
        assert part.suffix == ".svg"  # libraries choose a format by it
        assert is_partial(part)
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["figure.svg"]
    assert not is_partial(path)


def test_an_error_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "Größe\n")
    with pytest.raises(ZeroDivisionError), replacing(path) as part:
        _write_and_fail(part)
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\udcff")
    assert path.read_bytes() == "Größe\n".encode()
    assert names(tmp_path) == ["a.txt"]
    write_text(path, "\udcff", errors="replace")
    assert path.read_text() == "?"


def test_errors_of_the_disk_name_the_place(tmp_path):
    with pytest.raises(FileNotFoundError) as missing:
        write_text(tmp_path / "none/a.txt", "x")
    assert missing.value.filename == str(tmp_path / "none/a.txt")
    with pytest.raises(FileNotFoundError) as below, replacing_folder(tmp_path / "b") as folder:
        (folder / "none/c.txt").write_text("x")
    assert below.value.filename == str(tmp_path / "b/none/c.txt")
    with pytest.raises(FileNotFoundError) as other, replacing(tmp_path / "d") as part:
        part.write_bytes((tmp_path / "absent").read_bytes())
    assert other.value.filename == str(tmp_path / "absent")
    assert names(tmp_path) == []


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    code = (
        "import sys; from pathlib import Path; from cyclemlp.files import write_text\n"
        "try: write_text(Path(sys.argv[1]), 'x' * 10000)\n"
        "except OSError as error: print(error.filename)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.txt"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("durable", [False, True])
def test_a_folder_takes_its_place_with_all_that_is_in_it(tmp_path, durable):
    path = tmp_path / "above/data"
    for content in ("first", "second"):
        with replacing_folder(path, durable=durable) as folder:
            (folder / "inner").mkdir()
            (folder / "inner/a.txt").write_text(content)
            assert is_partial(folder)
        assert (path / "inner/a.txt").read_text() == content
    with pytest.raises(ZeroDivisionError), replacing_folder(path) as folder:
        raise ZeroDivisionError
    assert (path / "inner/a.txt").read_text() == "second"
    assert names(path.parent) == ["data"]


def test_a_folder_that_was_aside_when_its_process_was_killed_comes_back(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    path.rename(tmp_path / ".data.replaced")
    recover_folder(path)
    assert names(tmp_path) == ["data"]
    (tmp_path / ".data.replaced").mkdir()
    recover_folder(path)  # the new one is there: the old one is a rest
    with replacing_folder(path):
        pass
    assert names(tmp_path) == ["data"]


def test_only_rests_are_taken_for_rests():
    assert is_partial(Path("x/.recipe.0a1b2c3d.partial.yaml"))
    assert is_partial(Path(".checkpoint_0001.0a1b2c3d.partial"))
    for name in (".hidden", "a.0a1b2c3d.partial", ".mine.partial", ".recipe.0a1b2c3d.yaml"):
        assert not is_partial(Path(name))


def test_the_digest_of_a_file(tmp_path):
    content = b"cycle" * 1_000_000  # several reads
    (tmp_path / "a").write_bytes(content)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def _write_and_fail(path: Path) -> None:
    path.write_text("half")
    raise ZeroDivisionError
