"""Classes of a source and of a network: by name where both know names, else with a word, or not at all."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from cyclemlp.data import Digits, ImageFolder, ListFile, View, imagenet_classes, pair_classes
from cyclemlp.errors import DataError


def folders(root, names, each=1):
    for name in names:
        for index in range(each):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (index, 0, 0)).save(root / name / f"{index}.png")
    return ImageFolder(root)


def paired(source, names, count=None, **aliases):
    count = len(names) if count is None else count
    return pair_classes(
        source, names, count, what="these", whose="the model", way_out="mend it", aliases=aliases
    )


def by_name(source):
    return {source.name(index).split("/")[0]: source.label(index) for index in range(len(source))}


def test_the_same_names_are_left_as_they_are(tmp_path):
    source = folders(tmp_path, "abc")
    assert paired(source, list("abc")) is source


def test_names_in_another_order(tmp_path):
    source = paired(folders(tmp_path, ["0", "1", "10", "2"]), ["0", "1", "2", "10"])
    assert by_name(source) == {"0": 0, "1": 1, "10": 3, "2": 2}
    assert (source.classes, source.num_classes) == (["0", "1", "2", "10"], 4)


def test_a_class_without_images_is_told(tmp_path):
    with pytest.warns(UserWarning, match="these have none of 1 of the 3 classes: a"):
        assert by_name(paired(folders(tmp_path, "bc"), list("abc"))) == {"b": 1, "c": 2}


def test_an_unknown_class_is_refused(tmp_path):
    with pytest.raises(
        DataError, match="1 of 3 classes is none that the model knows: d; it has 3: a, b, c; mend it"
    ):
        paired(folders(tmp_path, "abd"), list("abc"))


def test_numbers_as_folder_names(tmp_path):
    source = folders(tmp_path, ["0", "1", "10", "2"])
    assert by_name(paired(source, None, 11))["10"] == 10
    with pytest.warns(UserWarning, match="taken as class numbers: '0' is 'word 0'"):
        assert by_name(paired(source, [f"word {i}" for i in range(11)])) == {"0": 0, "1": 1, "10": 10, "2": 2}


def test_places_only_without_names_and_with_a_word(tmp_path):
    with pytest.warns(UserWarning, match=r"these have class names \(a, b\) and the model has none"):
        assert by_name(paired(folders(tmp_path, "ab"), None, 2)) == {"a": 0, "b": 1}
    with pytest.raises(DataError, match="these have 2 classes and the model has 3, without names"):
        paired(ImageFolder(tmp_path), None, 3)


def test_wordnet_ids_are_names_of_imagenets_classes(tmp_path):
    source = folders(tmp_path, ["n01440764", "n02012849"])  # tench, and the crane that is a bird
    with pytest.warns(UserWarning, match="998 of the 1,000"):
        found = by_name(paired(source, imagenet_classes()))
    assert found == {"n01440764": 0, "n02012849": 134}


def test_a_name_of_two_classes_tells_neither(tmp_path):
    with pytest.raises(DataError, match="cannot be distinguished by the model's names"):
        paired(folders(tmp_path, ["crane"]), imagenet_classes())


def test_a_list_of_numbers_for_named_classes_is_told(tmp_path):
    folders(tmp_path, "ab")
    (tmp_path / "list.txt").write_text("a/0.png 0\nb/0.png 1\n")
    source = ListFile(tmp_path, tmp_path / "list.txt")
    with pytest.warns(UserWarning, match="class numbers and no names: 0 is taken for cat"):
        paired(source, ["cat", "dog"])
    assert paired(source, ["0", "1"]) is source  # names that say no more
    said = {"what": "these", "whose": "the class list", "way_out": "mend it"}  # `cyclemlp train --classes`
    assert pair_classes(source, ["cat", "dog"], 2, **said, numbers_are_meant=True) is source


def test_a_list_whose_labels_are_the_names(tmp_path):
    folders(tmp_path, ["1", "2", "10"])
    (tmp_path / "list.txt").write_text("1/0.png 1\n2/0.png 2\n10/0.png 10\n")
    source = ListFile(tmp_path, tmp_path / "list.txt", names=["1", "2", "10"])
    assert [source.label(index) for index in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match=r"list.txt:3: the label '10' is none of the 2 class names, '1'"):
        ListFile(tmp_path, tmp_path / "list.txt", names=["1", "2"])


def test_a_view_leaves_images_out_and_can_be_sent_to_workers(tmp_path):
    source = folders(tmp_path, "ab", each=3)
    view = pickle.loads(pickle.dumps(View(source, indices=[5, 0], numbers=[7, 3], num_classes=8)))
    assert len(view) == 2
    assert [view.name(index) for index in range(2)] == ["b/2.png", "a/0.png"]
    assert [view[index].label for index in range(2)] == [3, 7]
    assert view[-1].index == 1
    assert view.file(0).size == (8, 8)
    assert view.location(0) == source.location(5)
    with pytest.raises(IndexError):
        view[2]
    assert not hasattr(View(Digits("val")), "file")
    np.testing.assert_array_equal(View(Digits("val"), indices=[4])[0].image, Digits("val")[4].image)
