"""Weights of the classes in the cross entropy: counted, given, refused, and those of a resumed run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import yaml
from PIL import Image
from seg_fixtures import config_values, write_config, write_data

from cyclemlp.dense.seg.check import check, count_pixels
from cyclemlp.dense.seg.config import Builder, SegConfig, open_config
from cyclemlp.dense.seg.training import train
from cyclemlp.dense.seg.weighting import (
    balanced_weights,
    check_weights,
    given_weights,
    is_balanced,
    parse_weights,
    set_weights,
    weights_text,
)
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.report import read_json_lines
from cyclemlp.run import read_state
from cyclemlp.training.distributed import ALONE

CROSS_ENTROPY: dict[str, Any] = {"type": "CrossEntropyLoss"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def config_with(data: Path, loss: dict[str, Any] | None = None) -> SegConfig:
    values = config_values(data)
    if loss is not None:
        values["loss"] = loss
    return open_config(write_config(data.parent / "tiny.yaml", values))


def test_balanced_weights_by_hand() -> None:
    assert balanced_weights(np.array([900, 90, 10])) == [0.37037, 3.7037, 33.3333]
    # A class without a pixel: the others are balanced among themselves.
    assert balanced_weights(np.array([75, 0, 25])) == [0.666667, 1.0, 2.0]


def test_the_pixels_of_the_training_masks_are_counted(data: Path) -> None:
    masks = [np.asarray(Image.open(data / f"labels/{i}.png")) for i in range(4)]
    (data / "train.txt").write_text("".join(f"images/{i}.png labels/{i}.png\n" for i in (0, 1, 1)))
    pixels, count = count_pixels(config_with(data), show_progress=False)
    assert count == 3
    np.testing.assert_array_equal(pixels, [sum((masks[i] == k).sum() for i in (0, 1, 1)) for k in range(3)])


def test_a_mask_that_cannot_be_counted_is_named(data: Path) -> None:
    Image.fromarray(np.full((48, 64), 7, np.uint8)).save(data / "labels/1.png")
    with pytest.raises(DataError, match=r"train\.txt:2: .*1\.png has labels 7"):
        count_pixels(config_with(data), show_progress=False)
    (data / "labels/0.png").unlink()
    with pytest.raises(DataError, match=r"train\.txt:1: .*0\.png is no file"):
        count_pixels(config_with(data), show_progress=False)


def test_every_cross_entropy_gets_them(data: Path) -> None:
    mixed = {"type": "MixedLoss", "losses": [CROSS_ENTROPY, {"type": "DiceLoss"}], "coef": [1, 1]}
    config = config_with(data, {"types": [mixed, CROSS_ENTROPY], "coef": [1, 0.4]})
    set_weights(config, "balanced")
    assert is_balanced(config)
    set_weights(config, [1, 2, 3], where="balanced")
    assert not is_balanced(config)
    assert given_weights(config) == [1, 2, 3]
    first, second = Builder(config).loss["types"]
    np.testing.assert_array_equal(first.losses[0].weight.numpy(), [1, 2, 3])
    assert first.losses[1].weight is None
    np.testing.assert_array_equal(second.weight.numpy(), [1, 2, 3])
    assert "&id" not in config.to_yaml()  # each loss has its own list, for people who read the recipe


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        ({**CROSS_ENTROPY, "weight": [1, 2]}, r"loss\.types\.0\.weight has 2 numbers, and the model has 3"),
        ({**CROSS_ENTROPY, "weight": [1, -1, 2]}, "a number from 0 for each class"),
        ({**CROSS_ENTROPY, "weight": [0, 0, 0]}, "a number from 0 for each class"),
        ({**CROSS_ENTROPY, "weight": [1, float("nan"), 1]}, "a number from 0 for each class"),
        ({**CROSS_ENTROPY, "weight": "balance"}, "is 'balance'; expected balanced, or a list"),
        ({"type": "DiceLoss", "weight": "balanced"}, "is for CrossEntropyLoss; .* is a DiceLoss"),
    ],
)
def test_impossible_weights_are_refused(data: Path, loss: dict[str, Any], says: str) -> None:
    config = config_with(data, {"types": [loss], "coef": [1]})
    with pytest.raises(ConfigError, match=says):
        check_weights(config)
    with pytest.raises(ConfigError, match=says):
        train(config, data.parent / "run", ALONE, show_progress=False, say=[].append)
    with pytest.raises(ConfigError, match=says):
        check(config, show_progress=False)
    assert not (data.parent / "run").exists()


def test_weights_without_a_cross_entropy_are_refused(data: Path) -> None:
    config = config_with(data, {"types": [{"type": "LovaszSoftmaxLoss"}], "coef": [1]})
    with pytest.raises(ConfigError, match="for CrossEntropyLoss, and the losses are LovaszSoftmaxLoss"):
        set_weights(config, "balanced")


def test_what_is_typed_is_read() -> None:
    assert parse_weights("balanced") == "balanced"
    assert parse_weights("0.3,1, 2") == [0.3, 1, 2]
    for text in ("balance", "1;2", ""):
        with pytest.raises(ConfigError, match="give balanced, or a number for each class such as"):
            parse_weights(text)


def test_many_weights_are_told_by_their_ends() -> None:
    names = [f"c{i}" for i in range(20)]
    pixels = np.arange(20)
    text = weights_text(balanced_weights(pixels), names, pixels)
    assert text == "from 0.526 (c19) to 10 (c1); no mask has a pixel of c0"
    assert weights_text([0.5, 2], ["a", "b"]) == "a 0.5, b 2"


def test_a_run_keeps_its_weights(data: Path, tmp_path: Path) -> None:
    """The loss of the first step is the weighted one, and a resumed run has its weights, whatever the masks are now."""
    config = config_with(data, {"types": [{**CROSS_ENTROPY, "weight": "balanced"}], "coef": [1]})
    path, output, said = config.path, tmp_path / "run", list[str]()
    pixels, _ = count_pixels(config, show_progress=False)
    expected = balanced_weights(pixels)
    options: dict[str, Any] = {"evaluate": False, "show_progress": False, "say": said.append}
    short = {"iters": 1, "run.log_iters": 1}
    train(open_config(path, short), output, ALONE, **options)
    words = (
        f"class weights, balanced by the pixels of 4 training masks: background {expected[0]:.3g}, square "
    )
    assert any(text.startswith(words) for text in said)

    recipe = yaml.safe_load((output / "recipe.yaml").read_text())
    assert recipe["loss"]["types"][0]["weight"] == expected
    assert read_state(output / "checkpoints/checkpoint_000001")["class_weights"] == expected
    records = read_json_lines(output / "log.jsonl")
    assert records[0]["class weights"].startswith("balanced: background")
    # By hand, with the weights that the run began with. All images are in the step, as they are.
    from paddleseg.utils import utils

    utils.set_seed(0)
    build = Builder(config)
    dataset, model = build.train_dataset, build.model
    samples = [dataset[i] for i in range(4)]
    labels = np.stack([sample["label"] for sample in samples]).astype(np.int64)
    model.train()
    logits = model(paddle.to_tensor(np.stack([sample["img"] for sample in samples])))[0]
    log = paddle.nn.functional.log_softmax(logits, axis=1).numpy()
    counted = labels != 255
    weights = np.array(expected)[np.where(counted, labels, 0)] * counted
    losses = -np.take_along_axis(log, np.where(counted, labels, 0)[:, None], axis=1)[:, 0]
    by_hand = (weights * losses).sum() / weights.sum()
    assert abs(by_hand - losses[counted].mean()) > 0.01 * by_hand
    step = next(record for record in records if record["event"] == "step")
    assert step["loss"] == pytest.approx(by_hand, rel=1e-4)

    for i in range(4):
        mask = np.asarray(Image.open(data / f"labels/{i}.png")).copy()
        mask[:20] = 1
        Image.fromarray(mask).save(data / f"labels/{i}.png")
    assert balanced_weights(count_pixels(config, show_progress=False)[0]) != expected
    longer = {"iters": 2, "run.log_iters": 1}
    for source, resumed in ((path, 2), (output / "recipe.yaml", 3)):
        said.clear()
        settings = {**longer, "iters": resumed}
        with pytest.warns(UserWarning, match=f"iters {resumed - 1} → {resumed}$"):
            train(open_config(source, settings), output, ALONE, resume=output, **options)
        recipe = yaml.safe_load((output / "recipe.yaml").read_text())
        assert recipe["loss"]["types"][0]["weight"] == expected
        assert read_state(output / f"checkpoints/checkpoint_00000{resumed}")["class_weights"] == expected
        assert any("balanced, those of the run: background" in text for text in said) == (source == path)
