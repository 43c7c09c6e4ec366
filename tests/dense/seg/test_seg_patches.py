"""PaddleSeg's patches: each place breaks without its own, and gives the right figures with it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import ImageFile

import cyclemlp.dense
from cyclemlp.dense.compat import PATCHES, apply_patches

#: Place of a patch → what breaks there without it.
BREAKS = {
    "paddleseg.core.train.loss_computation": "loss_computation([logits], labels, None, losses)[0].numpy()[0]",
    "paddleseg.utils.metrics.calculate_area": "calculate_area(paddle.zeros([1, 4, 4]), labels[:1, :4, :4], 3)",
    "paddleseg.models.losses.CrossEntropyLoss._post_process_loss": "CrossEntropyLoss()(logits, labels)",
    "paddleseg.transforms.transforms.RandomPaddingCrop.__call__": "cropped()",
    "paddleseg.transforms.transforms.Image": "read()",
    "paddleseg.datasets.ade.Image": "ade()",
    "paddleseg.transforms.transforms.cv2": "heic()",
}
PROBE = """
import sys
import paddle
import numpy as np
from PIL import Image
if sys.argv[1] == "import":
    import cyclemlp.dense.seg
from paddleseg.transforms import Compose, RandomPaddingCrop
from paddleseg.datasets import ADE20K
from paddleseg.core.train import loss_computation
from paddleseg.models.losses import CrossEntropyLoss
from paddleseg.utils.metrics import calculate_area
logits, labels = paddle.randn([2, 3, 8, 8]), paddle.randint(0, 3, [2, 8, 8])
losses = {"types": [lambda logits, labels: logits.mean()], "coef": [1]}

folder = sys.argv[2]
Image.fromarray(np.ones((9, 9), np.uint16)).save(f"{folder}/m.png")

def cropped():
    crop = RandomPaddingCrop((4, 4), category_max_ratio=0.9)
    label = np.arange(81, dtype=np.uint8).reshape(9, 9) % 5
    assert crop({"img": np.zeros((9, 9, 3)), "label": label, "gt_fields": ["label"]})["img"].shape == (4, 4, 3)

def read():
    data = {"img": np.zeros((9, 9, 3), np.float32), "label": f"{folder}/m.png"}
    assert Compose([])(data)["label"].dtype == np.uint8

def heic():
    assert Compose([])({"img": f"{folder}/a.heic"})["img"].shape == (3, 24, 40)

def ade():
    data = ADE20K.__new__(ADE20K)
    data.mode, data.edge, data.file_list = "train", False, [[f"{folder}/m.png"] * 2]
    data.transforms = lambda data: data
    assert data[0]["label"].dtype == np.uint8

for code in sys.argv[3:]:
    try:
        eval(code)
    except Exception as error:
        print("breaks:", code)
    else:
        print("works:", code)
"""


@pytest.mark.parametrize(
    ("how", "word"), [pytest.param("leave", "breaks", marks=pytest.mark.heavy), ("import", "works")]
)
def test_each_place_breaks_without_its_patch_and_importing_ours_applies_it(how, word, tmp_path) -> None:
    assert [patch.place for patch in PATCHES if patch.engine == "paddleseg"] == list(BREAKS)
    shutil.copy(Path(__file__).parents[2] / "fixtures/data/quarters.heic", tmp_path / "a.heic")
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROBE, how, tmp_path, *BREAKS.values()],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines() == [f"{word}: {code}" for code in BREAKS.values()]


def test_the_public_patch_says_what_is_in_force() -> None:
    assert [patch.place for patch in cyclemlp.dense.patch("paddleseg")] == list(BREAKS)
    assert {patch.engine for patch in cyclemlp.dense.patch()} == {"paddleseg", "ppdet"}
    assert not ImageFile.LOAD_TRUNCATED_IMAGES  # PaddleDetection sets it when it is imported by itself


@pytest.fixture(scope="module", autouse=True)
def _patched() -> None:
    assert len(apply_patches("paddleseg")) == len(BREAKS)


def test_areas_are_counts_of_pixels() -> None:
    from paddleseg.utils import metrics

    draw = np.random.default_rng(0)
    pred, label = draw.integers(0, 4, (2, 9, 7)), draw.integers(0, 5, (2, 9, 7))
    label[label == 4] = 255
    found = metrics.calculate_area(paddle.to_tensor(pred[:, None]), paddle.to_tensor(label), 4)
    for k in range(4):
        assert int(found[0][k]) == np.sum((pred == k) & (label == k))
        assert int(found[1][k]) == np.sum((pred == k) & (label != 255))
        assert int(found[2][k]) == np.sum(label == k)
    nothing = metrics.calculate_area(paddle.to_tensor(pred), paddle.full([2, 9, 7], 255), 4)
    assert [area.tolist() for area in nothing] == [[0] * 4] * 3
    with pytest.raises(ValueError, match="differ in size"):
        metrics.calculate_area(paddle.to_tensor(pred), paddle.to_tensor(label[:1]), 4)


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("weights", [None, [1.0, 3.0, 0.5]])
def test_cross_entropy_is_the_weighted_mean_over_labelled_pixels(
    weights: list[float] | None, share: float
) -> None:
    from paddleseg.models.losses import CrossEntropyLoss

    draw = np.random.default_rng(1)
    logits, label = draw.normal(size=(2, 3, 6, 5)).astype("float32"), draw.integers(0, 4, (2, 6, 5))
    label[label == 3] = 255
    found = CrossEntropyLoss(weight=weights, top_k_percent_pixels=share)(
        paddle.to_tensor(logits), paddle.to_tensor(label)
    )

    log = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    counted = label != 255
    picked = np.take_along_axis(log, np.where(counted, label, 0)[:, None], axis=1)[:, 0]
    class_weight = np.array(weights or [1.0] * 3)[np.where(counted, label, 0)]
    loss = -picked * class_weight * counted
    if share == 1.0:
        expected = loss.sum() / (class_weight * counted).sum()
    else:
        hardest = np.argsort(-loss.ravel())[: int(share * loss.size)]
        # PaddleSeg weighs a pixel without a label like class 0 here, or as 1 without weights.
        expected = loss.ravel()[hardest].sum() / class_weight.ravel()[hardest].sum()
    np.testing.assert_allclose(float(found), expected, rtol=1e-5)
