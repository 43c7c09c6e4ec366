"""`cyclemlp show-data` from end to end."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cyclemlp.cli.main import main
from cyclemlp.cli.show_data import caption, to_image
from cyclemlp.data import evaluation_transform
from cyclemlp.errors import DataError
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.report import plot_samples

BASE = (
    "--data",
    "digits",
    "--model",
    "cyclemlp_nano",
    "--batch-size",
    "24",
    "--set",
    "model.overrides={in_chans: 1}",
)
NOTHING = [
    *("--set", "augment.mixup=0", "--set", "augment.cutmix=0", "--set", "augment.auto_augment=null"),
    *("--set", "augment.color_jitter=0", "--set", "augment.erasing_prob=0", "--set", "augment.repeats=1"),
    *("--set", "augment.hflip=0", "--set", "augment.crop_scale=[1, 1]", "--set", "augment.crop_ratio=[1, 1]"),
    *("--set", "loss.label_smoothing=0"),
]


@pytest.fixture
def show(tmp_path, capsys):
    """Run with some words; (exit code, image, stdout, stderr)."""

    def show(*words, name="sheet.png"):
        path = tmp_path / name
        code = main(["show-data", *map(str, words), "--figure", str(path)])
        shown = capsys.readouterr()
        image = np.asarray(Image.open(path).convert("RGB")) if path.exists() else None
        return code, image, shown.out, shown.err

    return show


def test_the_recipes_batch_is_drawn_and_said(show):
    code, sheet, out, err = show(*BASE, "--images", 16)
    assert code == 0, err
    assert "RandAugment (magnitude 9 ± 0.5, rising" in out
    assert "mixup 0.8 or cutmix 1, p 1, by batch, label smoothing 0.1, each image 3 times" in out
    assert "epoch 1, step 1: 16 of a batch of 24" in out
    assert sheet.shape[1] > sheet.shape[0] / 2
    assert sheet.std() > 20  # there is something on it


def test_same_words_same_sheet_and_other_epoch_another(show):
    one, again, other, step = (
        show(*BASE, "--images", 8, *words, name=f"{i}.png")[1]
        for i, words in enumerate([(), (), ("--epoch", 2), ("--step", 3)])
    )
    assert np.array_equal(one, again)
    assert one.shape != other.shape or not np.array_equal(one, other)
    assert one.shape != step.shape or not np.array_equal(one, step)


def test_with_everything_off_the_words_say_so(show):
    code, _, out, _ = show(*BASE, *NOTHING, "--images", 4)
    assert code == 0
    assert "100 to 100 % of the image at" in out
    assert "no mixup, no cutmix, label smoothing 0" in out
    assert "RandAugment" not in out


def test_images_from_folders_with_class_names(show, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    code, sheet, _, err = show("--data", tmp_path / "data", "--set", "data.preprocessing={input_size: 32}")
    assert code == 0, err
    assert sheet is not None
    assert "6 images are fewer than one batch of 128" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--step", 99), "--step is 99; an epoch has 59 steps"),
        (("--set", "augment.auto_augment=rand-x1"), "'x1' is not an option"),
        (("--set", "augment.erasing=1"), "unknown key augment.erasing"),
    ],
)
def test_mistakes_are_messages(show, words, message):
    code, sheet, _, err = show(*BASE, *words)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert sheet is None


def test_captions():
    names = [f"class {i}" for i in range(10)]

    def target(**shares):
        values = np.full(10, 0.01, dtype=np.float32)
        for name, share in shares.items():
            values[int(name[1:])] += share
        return values

    assert caption(target(_3=0.6, _7=0.3), names) == "class 3 0.61\nclass 7 0.31\nothers 0.08"
    assert caption(target(_3=0.9), names) == "class 3 0.91\nothers 0.09"
    assert caption(np.eye(10)[4], names) == "class 4 1.00"
    half = np.zeros(10)
    half[[2, 5]] = 0.5
    assert caption(half, names) == "class 2 0.50\nclass 5 0.50"


def test_normalising_is_undone():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    p = Preprocessing(input_size=20, crop_pct=1.0)
    back = to_image(evaluation_transform(p)(image), p)
    assert np.array_equal(np.rint(back * 255), np.asarray(image))
    assert to_image(np.full((3, 2, 2), 9.0), p).max() == 1


def test_a_sheet_holds_the_images(tmp_path):
    red, green = np.zeros((8, 8, 3)), np.zeros((8, 8, 3), dtype=np.uint8)
    red[..., 0], green[..., 1] = 1, 255
    path = plot_samples(
        [red, green, Image.new("L", (8, 8), 0)], ["a\nb", "c", "d"], tmp_path / "s.png", columns=2
    )
    sheet = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).tolist()
    for colour in ([255, 0, 0], [0, 255, 0], [0, 0, 0]):
        assert sheet.count(colour) > 5000
    with pytest.raises(DataError, match="1 image and 2 captions"):
        plot_samples([red], ["a", "b"], tmp_path / "t.png")
