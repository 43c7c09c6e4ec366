"""Predictions on images: the right pixels in the right colours, words in reach, mistakes refused."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cyclemlp.errors import ConfigError, DataError
from cyclemlp.report import class_colour, draw_detections, image_sheet, overlay_masks
from cyclemlp.report.lettering import Words, font_size, pad, text_size
from cyclemlp.report.palette import PALETTE_SIZE
from cyclemlp.report.tags import MOST_MOVED, leader

CLASSES = ["background", "cat", "dog"]
GREY = Image.new("RGB", (500, 300), (100, 100, 100))


@pytest.fixture
def written(monkeypatch):
    """The texts written on images, each with the corner at which it begins and the width of the canvas."""
    found = []
    text = ImageDraw.ImageDraw.text

    def note(self, xy, words, *args, **kwargs):
        found.append((words, xy, self.im.size[0]))
        return text(self, xy, words, *args, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", note)
    return found


def words(written):
    return [entry[0] for entry in written]


def mask_of(*regions, shape=(300, 500)):
    mask = np.zeros(shape, dtype=np.uint8)
    for value, part in regions:
        mask[part] = value
    return mask


def test_classes_are_tinted_and_outlined(written):
    mask = mask_of((1, np.s_[50:150, 100:200]), (2, np.s_[:, 400:]), (255, np.s_[200:, :100]))
    drawn = np.asarray(overlay_masks(GREY, mask, CLASSES, opacity=0.5))
    assert drawn.shape[0] == 300
    assert drawn.shape[1] > 500
    cat, dog = np.array(class_colour(1)), np.array(class_colour(2))
    assert drawn[100, 150] == pytest.approx((cat + 100) / 2, abs=1)
    assert drawn[100, 450] == pytest.approx((dog + 100) / 2, abs=1)
    assert (drawn[50, 100:200] == cat).all()  # the outline
    assert (drawn[0, 410:500] != dog).any()  # the image's edge is no outline
    assert (drawn[20, 300] == 100).all()  # background as it was
    ignored = drawn[200:, :100]
    assert 0.3 < (ignored != 100).any(axis=-1).mean() < 0.7  # hatched
    assert words(written) == ["background  66.7 %", "cat  6.7 %", "dog  20.0 %", "ignored  6.7 %"]


def test_many_classes_only_those_present(written):
    names = [f"thing {i}" for i in range(150)]
    overlay_masks(GREY, mask_of((149, np.s_[0, 0]), (7, np.s_[:, 250:])), names)
    assert words(written) == ["thing 0  50.0 %", "thing 7  50.0 %", "thing 149  <0.1 %"]


def test_the_legend_stands_below_a_wide_image_and_never_outside(written):
    for size in ((500, 300), (900, 60), (30, 600), (700, 20)):
        written.clear()
        names = [f"thing {i}" for i in range(60)]
        mask = np.arange(size[0] * size[1]).reshape(size[1], size[0]) % 60
        whole = overlay_masks(Image.new("RGB", size), mask, names)
        assert len(written) == 60
        scale = -(-480 // max(size))
        below = size[0] > 2 * size[1]
        for _, (x, y), width in written:
            assert width == whole.width
            assert 0 <= x < whole.width - 50
            assert 0 <= y < whole.height - 10
            assert (y >= size[1] * scale) if below else (x >= size[0] * scale)


def test_small_images_are_enlarged_with_their_masks():
    mask = mask_of((1, np.s_[:20]), shape=(40, 50))
    drawn = np.asarray(overlay_masks(np.zeros((40, 50)), mask, CLASSES, opacity=1))
    assert drawn.shape[0] == 400
    assert (drawn[:200, :500] == class_colour(1)).all()
    assert not drawn[200:, :500].any()
    detected = draw_detections(np.zeros((40, 50)), [[10, 20, 30, 30]], [1], None, CLASSES)
    assert detected.size == (500, 400)
    assert detected.getpixel((100, 250)) == class_colour(1)
    assert detected.getpixel((310, 250)) == (0, 0, 0)


@pytest.mark.parametrize(
    "image",
    [
        np.full((4, 6), 0.2),
        np.full((4, 6, 1), 51, np.uint8),
        np.full((4, 6, 3), 0.2, np.float32),
        Image.new("L", (6, 4), 51),
        Image.new("RGBA", (6, 4), (51, 51, 51, 255)),
    ],
)
def test_any_form_of_image(image):
    drawn = np.asarray(overlay_masks(image, np.zeros((4, 6), int), CLASSES))
    assert (drawn[:320, :480] == 51).all()


def test_a_palette_image_is_a_mask():
    mask = Image.fromarray(mask_of((2, np.s_[:, :250])))
    mask.putpalette([9] * 768)
    assert np.asarray(overlay_masks(GREY, mask, CLASSES, opacity=1))[5, 5].tolist() == list(class_colour(2))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((300, 499), int), r"shape \[300, 499\]; expected \[300, 500\]"),
        (np.zeros((300, 500, 3), int), r"shape \[300, 500, 3\]"),
        (np.zeros((300, 500)), "of float64; expected integers"),
        (np.full((300, 500), 3), r"holds 3 \(150,000 pixels of no class\); expected 0 to 2 for 3 classes"),
        (np.full((300, 500), -1), "holds -1"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask, message):
    with pytest.raises(DataError, match=message):
        overlay_masks(GREY, mask, CLASSES)


def test_what_is_no_image_is_refused():
    for image in (
        np.zeros(5),
        np.zeros((4, 6, 2)),
        np.full((4, 6), 7.0),
        np.full((4, 6), 7),
        np.zeros((0, 6)),
    ):
        with pytest.raises(DataError, match="the image is an array"):
            overlay_masks(image, np.zeros((4, 6), int), CLASSES)
    with pytest.raises(ConfigError, match="opacity is 50"):
        overlay_masks(GREY, mask_of(), CLASSES, opacity=50)


def test_objects_have_boxes_names_and_scores(written):
    boxes = [[50, 60, 150, 160], [300, 100, 420, 250]]
    drawn = np.asarray(draw_detections(GREY, boxes, [1, 2], [0.5, 0.987], CLASSES))
    assert drawn.shape == (300, 500, 3)
    assert (drawn[160, 50:150] == class_colour(1)).all()
    assert (drawn[100:250, 420] == class_colour(2)).all()
    assert (drawn[110, 100] == 100).all()
    assert sorted(words(written)) == ["cat 0.50", "dog 0.99"]
    for _, (x, y), _ in written:
        assert tuple(drawn[int(y) + 1, int(x)]) in (class_colour(1), class_colour(2))


def test_the_truth_has_no_scores_and_masks_are_tinted(written):
    masks = np.zeros((1, 300, 500), dtype=bool)
    masks[0, 100:200, 100:200] = True
    drawn = np.asarray(draw_detections(GREY, [[100, 100, 200, 200]], [2], None, CLASSES, masks))
    assert words(written) == ["dog"]
    assert drawn[150, 150] == pytest.approx(100 + 0.45 * (np.array(class_colour(2)) - 100), abs=1)
    assert (drawn[150, 250] == 100).all()


def test_the_surest_object_lies_on_top_and_has_the_first_place_for_its_name(written):
    masks = np.zeros((2, 300, 500), dtype=bool)
    masks[:, 100:200, 100:200] = True
    boxes = [[100, 100, 199, 199]] * 2
    for scores, top in (([0.9, 0.1], 1), ([0.1, 0.9], 2)):
        drawn = draw_detections(GREY, boxes, [1, 2], scores, CLASSES, masks)
        assert drawn.getpixel((150, 199)) == class_colour(top)
        above = [text for text, (_, y), _ in written if y < 99]
        assert above == [f"{CLASSES[top]} 0.90"]
        written.clear()


def drawn_areas(drawn, written):
    """Where the names were written, with the images' edges and each other kept free."""
    font = Words(CLASSES).font(font_size(drawn))
    areas = []
    for text, (x, y), _ in written:
        width, height = text_size(text, font)
        areas.append((x, y, x + width - 2 * pad(font), y + height))
    return areas


def overlapping(areas):
    return [
        (a, b)
        for i, a in enumerate(areas)
        for b in areas[:i]
        if min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])
    ]


def test_names_stay_in_the_image_and_apart(written):
    boxes = [[0, 0, 60, 40], [0, 0, 60, 41], [-30, -20, 5000, 900], [470, 0, 499, 20], [480, 280, 499, 299]]
    drawn = draw_detections(GREY, boxes, [0, 1, 2, 1, 2], [0.1, 0.2, 0.3, 0.4, 0.5], CLASSES)
    areas = drawn_areas(drawn, written)
    assert all(x0 >= 0 and y0 >= 0 and x1 <= 500 and y1 <= 300 for x0, y0, x1, y1 in areas)
    assert overlapping(areas) == []


def test_names_of_a_crowd_lie_apart_and_near_their_boxes(written):
    draw = np.random.default_rng(0)
    corners = draw.integers(100, 160, (20, 2))
    boxes = np.concatenate([corners, corners + draw.integers(60, 110, (20, 2))], axis=1)
    drawn = draw_detections(GREY, boxes, draw.integers(0, 3, 20), draw.random(20), CLASSES)
    areas = drawn_areas(drawn, written)
    assert len(areas) == 20
    assert overlapping(areas) == []
    reach = MOST_MOVED * 500 + 1
    assert all(100 - reach <= x0 <= 270 + reach for x0, *_ in areas)


def test_a_name_that_is_away_from_its_box_has_a_line_to_it():
    box = np.array([100.0, 100.0, 200.0, 200.0])
    assert leader((10, 110, 60, 130), box) == (60, 120, 100, 120)
    assert leader((120, 240, 160, 260), box) == (140, 240, 140, 200)
    assert leader((210, 80, 260, 90), box) == (210, 90, 200, 100)
    assert leader((100, 80, 150, 100), box) is None
    assert leader((120, 120, 150, 140), box) is None


def test_hundreds_of_names_are_placed_in_seconds():
    boxes = np.tile([[100, 100, 200, 200]], (300, 1))
    begin = time.monotonic()
    draw_detections(GREY, boxes, np.zeros(300, int), np.linspace(0, 1, 300), CLASSES)
    assert time.monotonic() - begin < 8


def test_no_objects_leave_the_image():
    for boxes, masks in (([], None), (np.zeros((0, 4)), np.zeros((0, 300, 500), bool))):
        drawn = draw_detections(GREY, boxes, [], [], CLASSES, masks)
        assert np.array_equal(np.asarray(drawn), np.asarray(GREY))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": [[1, 2, 3]]}, r"boxes: shape \[1, 3\]; expected \[1, 4\] for 1 label"),
        ({"boxes": []}, r"boxes: shape \[0\]; expected \[1, 4\]"),
        ({"boxes": [[5, 2, 3, 9]]}, r"box 0 is \[5.0, 2.0, 3.0, 9.0\]; expected x0 y0 x1 y1"),
        ({"boxes": [[5, 2, np.nan, 9]]}, "box 0 is"),
        ({"labels": [3]}, "label 0 is 3; expected 0 to 2"),
        ({"labels": [-1]}, "label 0 is -1"),
        ({"labels": [[1]]}, r"labels: shape \[1, 1\]; expected \[1\]"),
        ({"scores": [0.1, 0.2]}, r"scores: shape \[2\]"),
        ({"masks": np.zeros((1, 500, 300))}, r"masks: shape \[1, 500, 300\]; expected \[1, 300, 500\]"),
    ],
)
def test_objects_that_do_not_fit_are_refused(change, message):
    given = {"boxes": [[1, 2, 3, 4]], "labels": [0], "scores": None, "classes": CLASSES} | change
    with pytest.raises(DataError, match=message):
        draw_detections(GREY, **given)


def test_colours_differ():
    colours = [class_colour(i) for i in range(PALETTE_SIZE)]
    assert len(set(colours)) == len(colours)
    assert class_colour(PALETTE_SIZE) == class_colour(0)
    first = np.array(colours[:20], dtype=float)
    distances = np.linalg.norm(first[:, None] - first, axis=-1)[~np.eye(20, dtype=bool)]
    assert distances.min() > 60


def test_names_without_a_font_are_drawn_by_number_and_said(written):
    nowhere = "\U0010fffd"  # for private use, in no font
    with pytest.warns(
        UserWarning, match=r"letters of .*U0010fffd'; these .* by their numbers.*CYCLEMLP_FONT"
    ):
        overlay_masks(GREY, mask_of(), ["background", nowhere, "plain"])
    assert words(written) == ["background  100.0 %", "class 1  0.0 %", "plain  0.0 %"]


def test_a_font_can_be_named(written, monkeypatch):
    from matplotlib import get_data_path

    monkeypatch.setenv("CYCLEMLP_FONT", f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        overlay_masks(GREY, mask_of(), ["background", "кошка", "Größe\n"])
    assert words(written)[1:] == ["кошка  0.0 %", "Größe  0.0 %"]
    monkeypatch.setenv("CYCLEMLP_FONT", "nowhere.ttf")
    with pytest.raises(ConfigError, match=r"CYCLEMLP_FONT is 'nowhere.ttf'"):
        overlay_masks(GREY, mask_of(), CLASSES)


def test_sheet(written):
    images = [
        Image.new("RGB", size, c) for size, c in (((80, 50), "red"), ((90, 40), "lime"), ((10, 70), "blue"))
    ]
    sheet = np.asarray(image_sheet(images, ["a", "b", "c"], columns=2)).reshape(-1, 3).tolist()
    assert [sheet.count(c) for c in ([255, 0, 0], [0, 255, 0], [0, 0, 255])] == [4000, 3600, 700]
    assert words(written) == ["a", "b", "c"]
    image_sheet(images[:1])
    for wrong in (([], None), (images, ["a"])):
        with pytest.raises(DataError, match="a sheet needs at least one image"):
            image_sheet(*wrong)
