"""The robustness sets as they lie on disk."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest
from PIL import Image
from robustness_fixtures import write_set

from cyclemlp.data import imagenet_class_map
from cyclemlp.errors import DataError
from cyclemlp.evaluation import robustness as data
from cyclemlp.preprocessing import Preprocessing

IDS = list(imagenet_class_map())


@pytest.fixture(scope="module")
def v2(tmp_path_factory):
    """All of ImageNet-V2's 10,000 images in its 1000 folders."""
    folder = tmp_path_factory.mktemp("imagenetv2") / "imagenetv2-matched-frequency-format-val"
    return write_set(folder, {str(number): 10 for number in range(1000)}, ".jpeg")


def test_classes_of_the_subsets():
    a, r = data.published_set("a"), data.published_set("r")
    for subset in (a, r):
        assert len(subset.folders) == len(set(subset.classes)) == 200
        assert [IDS[label] for label in subset.classes] == list(subset.folders) == sorted(subset.folders)
    # The sums, and both ends, of the lists in the authors' eval.py.
    assert (a.classes[:3], a.classes[-1], sum(a.classes)) == ((6, 11, 13), 988, 102_178)
    assert (r.classes[:3], r.classes[-1], sum(r.classes)) == ((1, 2, 4), 988, 86_135)
    assert len(data.published_set("sketch").classes) == len(data.published_set("v2").classes) == 1000


def test_v2_is_complete_and_its_folders_are_class_numbers(v2):
    (opened,) = data.open_imagenet_v2(v2)
    assert (opened.title, opened.missing) == ("ImageNet-V2, matched-frequency", ())
    source = opened.source
    assert len(source) == 10_000
    # In the order of strings, 10 would be class 2.
    assert all(source.label(i) == int(source.name(i).split("/")[0]) for i in range(len(source)))
    assert opened.published.classes[source.label(len(source) - 1)] == 999


def test_v2_that_lacks_a_image_is_refused(v2):
    image = v2 / "7" / "3.jpeg"
    content = image.read_bytes()
    image.unlink()
    try:
        with pytest.raises(DataError, match=r"not complete: 9,999 images instead of 10,000.*give --partial"):
            data.open_imagenet_v2(v2)
        (opened,) = data.open_imagenet_v2(v2, partial=True)
        assert opened.missing == ("9,999 images instead of 10,000",)
    finally:
        image.write_bytes(content)


def test_v2_selections_in_one_folder(tmp_path):
    for name in ("topimages-format-val", "threshold0.7-format-val", "matched-frequency-format-val"):
        write_set(tmp_path / f"imagenetv2-{name}", {"10": 1})
    (tmp_path / "imagenetv2-matched-frequency.tar.gz").write_bytes(b"what the folder was unpacked from")
    opened = data.open_imagenet_v2(tmp_path, partial=True)
    assert [one.title.removeprefix("ImageNet-V2, ") for one in opened] == [
        "matched-frequency",
        "threshold-0.7",
        "top-images",
    ]
    assert [one.source.label(0) for one in opened] == [10, 10, 10]
    with pytest.raises(DataError, match="neither the class folders 0 to 999 nor folders such as"):
        data.open_imagenet_v2(write_set(tmp_path / "other", {"cats": 1}))


def test_a_set_of_other_classes_is_refused(tmp_path):
    foreign = next(name for name in IDS if name not in data.published_set("a").folders)
    write_set(tmp_path, {data.published_set("a").folders[0]: 1, foreign: 1})
    with pytest.raises(DataError, match=f"1 of 2 folders is not of ImageNet-A: {foreign}; its 200 class"):
        data.open_published(data.published_set("a"), tmp_path, partial=True)


def test_a_set_without_a_class_is_refused_or_said_to_be_partial(tmp_path):
    folders = data.published_set("a").folders
    write_set(tmp_path, dict.fromkeys(folders[1:], 2))
    with pytest.raises(DataError, match=f"199 of 200 class folders; {folders[0]} is missing"):
        data.open_published(data.published_set("a"), tmp_path)
    opened = data.open_published(data.published_set("a"), tmp_path, partial=True)
    assert opened.missing == (
        f"199 of 200 class folders; {folders[0]} is missing",
        "398 images instead of 7,500",
    )
    assert [opened.source.label(0), opened.source.num_classes] == [1, 200]  # as if the first were there


def test_a_tar_and_a_folder_around_are_read_too(tmp_path, monkeypatch):
    monkeypatch.setenv("CYCLEMLP_HOME", str(tmp_path / "cache"))
    folders = data.published_set("r").folders
    write_set(tmp_path / "unpacked" / "imagenet-r", {folders[3]: 2, folders[5]: 1})
    with tarfile.open(tmp_path / "imagenet-r.tar", "w", dereference=True) as tar:
        tar.add(tmp_path / "unpacked" / "imagenet-r", "imagenet-r")
    for path in (tmp_path / "unpacked", tmp_path / "unpacked" / "imagenet-r", tmp_path / "imagenet-r.tar"):
        source = data.open_published(data.published_set("r"), path, partial=True).source
        assert [source.label(i) for i in range(len(source))] == [3, 3, 5]
        assert source[2].image.size == (32, 32)


def test_imagenet_c_in_groups_or_not(tmp_path):
    for name in data.COUNTED:
        group = next(group for group, names in data.CORRUPTIONS.items() if name in names)
        for severity in data.SEVERITIES:
            write_set(tmp_path / "grouped" / group / name / str(severity), {IDS[severity]: 1})
    write_set(tmp_path / "grouped" / "extra" / "spatter" / "2", {IDS[9]: 1})
    found = data.ImageNetC(tmp_path / "grouped")
    assert found.severities == {**dict.fromkeys(data.COUNTED, data.SEVERITIES), "spatter": (2,)}
    with pytest.raises(DataError, match=r"ImageNet-C, fog 4 is not complete: 1 of 1,000 class folders"):
        found.open("fog", 4)
    opened = data.ImageNetC(tmp_path / "grouped", partial=True).open("fog", 4)
    assert (opened.title, opened.source.label(0)) == ("ImageNet-C, fog 4", 4)

    write_set(tmp_path / "flat" / "fog" / "4", {IDS[0]: 1})
    with pytest.raises(DataError, match=r"not complete: 1 of 75 folders; gaussian_noise/1, gaussian_noise/2"):
        data.ImageNetC(tmp_path / "flat")
    assert data.ImageNetC(tmp_path / "flat", partial=True).severities == {"fog": (4,)}
    with pytest.raises(
        DataError, match="holds none of ImageNet-C's folders, such as gaussian_noise/1/n01440764"
    ):
        data.ImageNetC(tmp_path, partial=True)


def test_centre_crop_does_not_resize():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 60, 3), dtype=np.uint8))
    whole = np.asarray(image)
    for size in (48, 32):
        transform = data.CentreCropTransform(Preprocessing(input_size=size, mean=(0.0,) * 3, std=(1.0,) * 3))
        top, left = (48 - size) // 2, (60 - size) // 2
        expected = whole[top : top + size, left : left + size].transpose(2, 0, 1) / np.float32(255)
        assert np.array_equal(transform(image), expected)
    with pytest.raises(DataError, match=r"is 60×48, and the model takes 50×50; .* give --input-size 48"):
        data.CentreCropTransform(Preprocessing(input_size=50))(image)
