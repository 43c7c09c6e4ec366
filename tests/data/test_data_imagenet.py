"""ImageNet in the four forms in which it lies on disks; every fault in it is named."""

from __future__ import annotations

import pickle
from pathlib import Path

import imagenet_fixtures as stand_in
import numpy as np
import pytest
from imagenet_fixtures import DEVKIT, IDS, TRUTH, VALIDATION

from cyclemlp.data import (
    ImageFolder,
    TarFolders,
    build_loader,
    open_imagenet,
    open_images,
    training_transform,
)
from cyclemlp.data.imagenet import check_validation_labels, find_imagenet, fingerprint, read_ground_truth
from cyclemlp.errors import DataError
from cyclemlp.preprocessing import Preprocessing

FORMS = ("tar", "folders", "list", "flat")


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    return stand_in.build(tmp_path_factory.mktemp("imagenet"))


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CYCLEMLP_HOME", str(tmp_path / "cache"))


@pytest.fixture
def raw(tmp_path):
    """The validation images as they are downloaded, to be spoilt."""
    folder = tmp_path / "raw"
    folder.mkdir()
    stand_in.write_tar(folder / "ILSVRC2012_img_val.tar", stand_in.validation_images())
    stand_in.write_files(folder, stand_in.devkit_files())
    return folder


def labels_by_name(source):
    return {Path(source.name(i)).name: source.label(i) for i in range(len(source))}


@pytest.mark.parametrize("form", FORMS)
def test_validation_images_have_their_classes_in_every_form(imagenet, form):
    place, source = open_imagenet(imagenet / form, "val")
    assert (place.form, source.num_classes) == (form, 1000)
    assert labels_by_name(source) == {
        stand_in.validation_name(number): label for number, label in enumerate(VALIDATION, 1)
    }
    contents = {Path(source.name(i)).name: np.asarray(source[i].image) for i in range(len(source))}
    _, folders = open_imagenet(imagenet / "folders", "val")
    for i in range(len(folders)):
        assert np.array_equal(contents[Path(folders.name(i)).name], np.asarray(folders[i].image))
    copied = pickle.loads(pickle.dumps(source))
    assert np.array_equal(np.asarray(copied[3].image), np.asarray(source[3].image))


def test_numbers_of_the_devkit_are_not_taken_for_classes(imagenet):
    _, source = open_imagenet(imagenet / "tar", "val")
    as_they_stand = [int(line) - 1 for line in stand_in.ground_truth().split()]
    assert [source.label(i) for i in range(12)] == list(VALIDATION) != as_they_stand


def test_training_tar_of_tars_is_the_training_folder(imagenet):
    (_, tar), (_, folders), (_, listed) = (open_imagenet(imagenet / form, "train") for form in FORMS[:3])
    assert isinstance(tar, TarFolders)
    assert isinstance(folders, ImageFolder)
    assert tar.classes == folders.classes == IDS
    for other in (tar, listed):
        assert labels_by_name(other) == labels_by_name(folders)
    assert [tar.name(i) for i in range(1000)] == [folders.name(i) for i in range(1000)]
    transform = training_transform(Preprocessing(input_size=32))
    options = {"batch_size": 50, "shuffle": True, "seed": 4, "drop_last": True}
    first, read = (next(iter(build_loader(source, transform, **options))) for source in (folders, tar))
    assert np.array_equal(first.labels, read.labels)
    assert np.array_equal(first.images, read.images)
    forked = build_loader(tar, transform, num_workers=2, **options)
    again = next(iter(forked))
    forked.close()
    assert np.array_equal(first.images, again.images)


def test_a_tar_alone_and_a_folder_of_all_are_found_too(imagenet):
    tar = open_images(imagenet / "tar/ILSVRC2012_img_val.tar", "train")
    assert labels_by_name(tar) == labels_by_name(open_images(imagenet / "flat/val", "val"))
    assert len(open_images(imagenet / "folders", "train")) == 1000
    assert len(open_images(imagenet / "folders", "val")) == 12
    assert find_imagenet(imagenet, "val") is None


def test_a_list_alone_does_not_make_a_folder_of_classes_imagenet(tmp_path):
    stand_in.write_files(tmp_path, {"cat/1.jpg": stand_in.image(1), "dog/2.jpg": stand_in.image(2)})
    (tmp_path / "val_list.txt").write_text("cat/1.jpg 0\n")
    with pytest.warns(UserWarning, match="passed over 1"):
        assert open_images(tmp_path, "val").classes == ["cat", "dog"]


def test_kaggles_copy(tmp_path):
    stand_in.write_files(tmp_path / "ILSVRC/Data/CLS-LOC/val", stand_in.validation_images())
    lines = [
        f"{stand_in.validation_name(n)[:-5]},{IDS[label]} 1 2 3 4 " for n, label in enumerate(VALIDATION, 1)
    ]
    solution = tmp_path / "LOC_val_solution.csv"
    solution.write_text("\n".join(["ImageId,PredictionString", *reversed(lines)]) + "\n")
    place, source = open_imagenet(tmp_path, "val")
    assert place.form == "flat"
    assert [source.label(i) for i in range(12)] == list(VALIDATION)
    solution.write_text(solution.read_text().replace(IDS[VALIDATION[0]], "n00000000"))
    with pytest.raises(DataError, match=r"LOC_val_solution.csv:13: .*n00000000"):
        open_imagenet(tmp_path, "val")


# ---- faults


def spoil(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def without_meta(folder):
    (folder / DEVKIT / "data/meta.mat").unlink()


def without_truth(folder):
    (folder / DEVKIT / "data" / TRUTH).unlink()


def truth(text):
    return lambda folder: (folder / DEVKIT / "data" / TRUTH).write_bytes(text)


def meta(content):
    return lambda folder: (folder / DEVKIT / "data/meta.mat").write_bytes(content())


def images(change):
    def spoil(folder):
        files = stand_in.validation_images()
        change(files)
        stand_in.write_tar(folder / "ILSVRC2012_img_val.tar", files)

    return spoil


FAULTS = {
    "no devkit": (without_truth, "no labels of the validation images"),
    "no meta.mat": (without_meta, "numbers are the devkit's own.*meta.mat"),
    "a line too few": (
        truth(stand_in.ground_truth(VALIDATION[:11])),
        r"ILSVRC2012_val_00000012.JPEG' is not one of the 11",
    ),
    "a line too many": (
        truth(stand_in.ground_truth((*VALIDATION, 5))),
        "12 images, and .* has 13 lines; ILSVRC2012_val_00000013.JPEG is missing",
    ),
    "out of range": (truth(b"5\n1001\n"), f"{TRUTH}:2: '1001' is not a class"),
    "no number": (truth(b"5\nn01440764\n"), f"{TRUTH}:2: 'n01440764'"),
    "a damaged meta.mat": (
        meta(lambda: b"MATLAB 5.0" * 40),
        "meta.mat: cannot be read as the devkit's table",
    ),
    "an unknown id": (
        meta(lambda: stand_in.meta_mat(ids=["n00000000", *IDS[1:]])),
        f"class {stand_in.DEVKIT_NUMBERS[0]} is n00000000",
    ),
    "an id twice": (meta(lambda: stand_in.meta_mat(ids=[IDS[1], *IDS[1:]])), f"gives {IDS[1]} to several"),
    "a class missing": (
        meta(lambda: stand_in.meta_mat([5000, *stand_in.DEVKIT_NUMBERS[1:]])),
        f"class {stand_in.DEVKIT_NUMBERS[0]} is missing",
    ),
    "an image missing": (
        images(lambda files: files.pop(stand_in.validation_name(7))),
        "11 images.*ILSVRC2012_val_00000007.JPEG is missing",
    ),
    "another image": (
        images(lambda files: files.update({"cat.JPEG": b""})),
        "'cat.JPEG' is not one of the 12",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_validation_set_are_named(raw, fault):
    change, words = FAULTS[fault]
    assert len(open_imagenet(raw, "val")[1]) == 12
    change(raw)
    with pytest.raises(DataError, match=words):
        open_imagenet(raw, "val")


def test_a_devkit_that_is_cut_off(raw):
    without_truth(raw)
    archive = stand_in.write_tar(raw / f"{DEVKIT}.tar.gz", stand_in.devkit_files(), "w:gz")
    assert read_ground_truth([raw]).wordnet_ids[0] == IDS[VALIDATION[0]]
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"tar.gz: is cut off or damaged"):
        read_ground_truth([raw])
    stand_in.write_tar(archive, {"other.txt": b""}, "w:gz")
    with pytest.raises(DataError, match=f"holds no {TRUTH}"):
        read_ground_truth([raw])


def test_training_classes_that_are_missing_or_unknown(tmp_path):
    tars = stand_in.training_tars()
    tars.pop(f"{IDS[40]}.tar")
    stand_in.write_tar(tmp_path / "ILSVRC2012_img_train.tar", tars)
    with pytest.raises(DataError, match=f"no images of 1 of ImageNet's 1000 classes: {IDS[40]}"):
        open_imagenet(tmp_path, "train")
    stand_in.write_files(tmp_path / "train", {"n00000000/1.JPEG": stand_in.image(0)})
    (tmp_path / "ILSVRC2012_img_train.tar").unlink()
    with pytest.raises(DataError, match=r"not in the class map: n00000000"):
        open_imagenet(tmp_path, "train")
    with pytest.raises(DataError, match="holds nothing that is ImageNet's val images"):
        open_imagenet(tmp_path, "val")


def test_labels_in_lists_are_compared_with_paths_and_ground_truth(imagenet, tmp_path):
    _, source = open_imagenet(imagenet / "list", "val")
    assert check_validation_labels(source, [imagenet / "flat"]) == 12
    assert check_validation_labels(source, [imagenet / "list"]) == 0
    stand_in.write_files(
        tmp_path, {f"val/{name}": content for name, content in stand_in.validation_images().items()}
    )
    lines = [f"val/{stand_in.validation_name(n)} {VALIDATION[n % 12]}\n" for n in range(1, 13)]
    (tmp_path / "val_list.txt").write_text("".join(lines))
    _, permuted = open_imagenet(tmp_path, "val")
    with pytest.raises(
        DataError, match=f"val_list.txt:1: .*labelled 3, and by .* it is a {IDS[417]}, class 417"
    ):
        check_validation_labels(permuted, [imagenet / "flat"])
    (tmp_path / "train_list.txt").write_text(f"train/{IDS[3]}/x.JPEG 3\ntrain/{IDS[4]}/y.JPEG 5\n")
    with pytest.raises(DataError, match=f"train_list.txt:2: .* labelled 5, and {IDS[4]} is class 4"):
        open_imagenet(tmp_path, "train")


def test_fingerprint_is_of_names_labels_and_sizes(raw):
    before = fingerprint(open_imagenet(raw, "val")[1])
    assert fingerprint(open_imagenet(raw, "val")[1]) == before
    truth(stand_in.ground_truth(VALIDATION[1:] + VALIDATION[:1]))(raw)
    relabelled = fingerprint(open_imagenet(raw, "val")[1])
    images(lambda files: files.update({stand_in.validation_name(5): stand_in.image(1) + b"\0"}))(raw)
    assert len({before, relabelled, fingerprint(open_imagenet(raw, "val")[1])}) == 3
