"""CIFAR's official archives, made here with other images: read as data, and written as tars that can be trained on."""

import io
import pickle
import tarfile

import numpy as np
import pytest

from cyclemlp.cli.main import main
from cyclemlp.data import TarFolders
from cyclemlp.data.cifar import read_cifar, write_class_tar
from cyclemlp.errors import DataError

NAMES = ["airplane", "automobile", "bird"]


def batch(count, seed, **more):
    rng = np.random.default_rng(seed)
    values = {
        "data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
        "labels": rng.integers(0, len(NAMES), count).tolist(),
        "filenames": [f"image_{i}.png" for i in range(count)],
        "batch_label": "a batch",
    }
    return {**values, **more}


def by_python_2(values):
    """As Python 2 pickled it: its strings are bytes without a mark, arrays are made of such a string."""

    def text(value):
        raw = value.encode("latin1") if isinstance(value, str) else value
        return b"T" + len(raw).to_bytes(4, "little") + raw

    def number(value):
        return b"J" + value.to_bytes(4, "little")

    def item(value):
        if isinstance(value, np.ndarray):
            made = (
                b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + number(0) + b"\x85" + text("b")
            )
            dtype = b"cnumpy\ndtype\n" + text("u1") + number(0) + number(1) + b"\x87R("
            dtype += number(3) + text("|") + b"NNN" + number(2**32 - 1) * 2 + number(0) + b"tb"
            shape = number(value.shape[0]) + number(value.shape[1]) + b"\x86"
            return made + b"\x87R(" + number(1) + shape + dtype + b"\x89" + text(value.tobytes()) + b"tb"
        if isinstance(value, list):
            return b"](" + b"".join(map(item, value)) + b"e"
        return number(value) if isinstance(value, int) else text(value)

    return b"\x80\x02}(" + b"".join(text(key) + item(value) for key, value in values.items()) + b"u."


def archive(path, members, pickled=by_python_2):
    with tarfile.open(path, "w:gz") as tar:
        for name, values in members.items():
            content = values if isinstance(values, bytes) else pickled(values)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def cifar10():
    return {
        "readme.html": b"<html>",
        "batches.meta": {"label_names": NAMES, "num_cases_per_batch": 4},
        "data_batch_2": batch(3, 2),
        "data_batch_1": batch(4, 1),
        "test_batch": batch(5, 3),
    }


@pytest.mark.parametrize("pickled", [by_python_2, pickle.dumps])
def test_images_and_labels_are_those_of_the_batches(tmp_path, pickled):
    members = cifar10()
    found = read_cifar(archive(tmp_path / "cifar-10-python.tar.gz", members, pickled))
    for part, names in {"train": ["data_batch_1", "data_batch_2"], "test": ["test_batch"]}.items():
        assert found[part].classes == NAMES
        assert found[part].labels.tolist() == [label for name in names for label in members[name]["labels"]]
        flat = np.concatenate([members[name]["data"] for name in names])
        red, green, blue = flat.reshape(-1, 3, 32, 32).transpose(1, 0, 2, 3)
        assert (found[part].images == np.stack([red, green, blue], axis=-1)).all()


def test_cifar_100_has_its_fine_labels(tmp_path):
    members = {"meta": {"fine_label_names": NAMES, "coarse_label_names": ["a", "b"]}}
    for name in ("train", "test"):
        values = batch(6, 4, coarse_labels=[0] * 6)
        members[name] = {**values, "fine_labels": values.pop("labels")}
    found = read_cifar(archive(tmp_path / "cifar-100-python.tar.gz", members))
    assert found["train"].labels.tolist() == members["train"]["fine_labels"]


def test_a_batch_of_full_size_is_read(tmp_path):
    members = {**cifar10(), "data_batch_1": batch(10_000, 1)}
    assert len(read_cifar(archive(tmp_path / "c.tar.gz", members))["train"].labels) == 10_003


def test_the_tars_have_every_image_as_it_was_and_the_same_bytes_each_time(tmp_path):
    part = read_cifar(archive(tmp_path / "c.tar.gz", cifar10()))["train"]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_class_tar(part, tmp_path / name / "train.tar")
    assert (tmp_path / "one/train.tar").read_bytes() == (tmp_path / "two/train.tar").read_bytes()
    source = TarFolders(tmp_path / "one/train.tar")
    used = sorted({part.classes[label] for label in part.labels.tolist()})
    assert source.classes == used
    for index in range(len(source)):
        sample, number = source[index], int(source.name(index)[-9:-4])
        assert (np.asarray(sample.image) == part.images[number]).all()
        assert used[sample.label] == part.classes[part.labels[number]]


def test_the_command_writes_tars_that_can_be_split(tmp_path, capsys):
    path, output = archive(tmp_path / "cifar-10-python.tar.gz", cifar10()), tmp_path / "cifar10"
    assert main(["data", "cifar", str(path), "--output", str(output), "--no-progress"]) == 0
    printed = capsys.readouterr().out
    assert f"{output / 'train.tar'}: 7 images of 3 classes" in printed
    assert main(printed.splitlines()[-1].split()[1:]) == 0
    assert (output / "val.txt").is_file()
    assert main(["data", "cifar", str(path), "--output", str(output)]) == 2
    assert "--force" in capsys.readouterr().err


class Evil:
    def __reduce__(self):
        return (print, ("it ran",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_batch": None}, "no test batch"),
        ({"batches.meta": None}, "no meta batch"),
        (
            {"data_batch_1": batch(4, 1, labels=[0, 1])},
            r"data_batch_1 has an array of uint8 \[4, 3072\] for 2 labels",
        ),
        (
            {"data_batch_1": batch(2, 1, labels=[0, 9])},
            "data_batch_1 has labels that are none of the 3 classes",
        ),
        ({"data_batch_1": batch(2, 1, data=np.zeros((2, 7), np.uint8))}, "data_batch_1 has an array"),
        ({"data_batch_1": {"labels": [1]}}, "data_batch_1 does not have images with labels"),
        ({"data_batch_1": pickle.dumps([1])}, "data_batch_1: is no batch of CIFAR: it holds a list"),
        ({"data_batch_1": pickle.dumps({"data": Evil()})}, "data_batch_1: .*print"),
        ({"data_batch_1": by_python_2(batch(4, 1))[:-200]}, "data_batch_1: is damaged"),
        ({"batches.meta": {"label_names": ["a", "../b", "c"]}}, "class named '../b'"),
        ({"batches.meta": {"label_names": ["a", "a", "c"]}}, "does not have the names of the classes"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, capsys, change, message):
    members = {name: values for name, values in {**cifar10(), **change}.items() if values is not None}
    with pytest.raises(DataError, match=message):
        read_cifar(archive(tmp_path / "c.tar.gz", members))
    assert "it ran" not in capsys.readouterr().out


def test_a_file_that_is_no_archive_or_is_cut_off(tmp_path):
    path = archive(tmp_path / "c.tar.gz", cifar10())
    for content in (b"", b"no archive", path.read_bytes()[:2000]):
        (tmp_path / "broken.tar.gz").write_bytes(content)
        with pytest.raises(DataError, match=r"broken.tar.gz: cannot be read as an archive of CIFAR"):
            read_cifar(tmp_path / "broken.tar.gz")
    with pytest.raises(DataError, match=r"missing.tar.gz: cannot be read"):
        read_cifar(tmp_path / "missing.tar.gz")
