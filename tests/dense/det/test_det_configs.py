"""Every configuration goes through PaddleDetection's own parser and builder, and is what the paper trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from dense.det.small import CONFIGS
from ppdet.core.workspace import create, load_config

from cyclemlp.dense.det.configuration import Configuration, _reset
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.preprocessing import IMAGENET_MEAN, IMAGENET_STD

#: Millions of parameters as published.
PUBLISHED = {
    "retinanet": {1: 24.9, 2: 36.5, 3: 48.1, 4: 61.5, 5: 85.9},
    "mask_rcnn": {1: 34.8, 2: 46.5, 3: 58.0, 4: 71.5, 5: 95.3},
}
FILES = sorted(path for path in CONFIGS.glob("*.yaml") if not path.name.startswith("_"))


def batch(size: int = 64) -> dict[str, Any]:
    """Two images as the engine's reader hands them over: one object in the first, two in the second."""
    rng = np.random.default_rng(0)
    boxes = [[[8, 8, 40, 48]], [[4, 10, 30, 30], [20, 24, 60, 60]]]
    return {
        "image": paddle.to_tensor(rng.standard_normal((2, 3, size, size)).astype("float32")),
        "im_shape": paddle.to_tensor([[size, size]] * 2, dtype="float32"),
        "scale_factor": paddle.ones([2, 2]),
        "im_id": paddle.to_tensor([[1], [2]]),
        "gt_bbox": [paddle.to_tensor(b, dtype="float32") for b in boxes],
        "gt_class": [paddle.to_tensor([[i] for i in range(len(b))], dtype="int32") for b in boxes],
        "is_crowd": [paddle.zeros([len(b), 1], dtype="int32") for b in boxes],
        "gt_poly": [
            [[np.array([x0, y0, x1, y0, x1, y1, x0, y1], "float64")] for x0, y0, x1, y1 in b] for b in boxes
        ],
    }


def build(path: Path, tmp_path: Path, pretrained: bool = False) -> Any:
    """A file's model by the engine's own functions, without fetching weights."""
    _reset()
    copy = tmp_path / path.name
    text = path.read_text()
    if not pretrained:
        text = text.replace("pretrained: true", "pretrained: null")
    bases = re.search(r"_BASE_: \[(.*)\]", text)
    assert bases
    absolute = ", ".join(str(CONFIGS / name.strip()) for name in bases[1].split(","))
    copy.write_text(text.replace(bases[0], f"_BASE_: [{absolute}]"))
    return create(load_config(str(copy)).architecture)


def _heavy_if_large(path: Path) -> Any:
    large = re.search(r"_b[2345]_1x", path.stem)
    return pytest.param(path, marks=[pytest.mark.heavy] if large else [], id=path.stem)


@pytest.mark.parametrize("path", [_heavy_if_large(path) for path in FILES])
def test_config_takes_a_step_forward_and_back(path: Path, tmp_path: Path) -> None:
    paddle.seed(0)
    np.random.seed(0)
    model = build(path, tmp_path)
    model.train()
    losses = model(batch())
    assert all(np.isfinite(float(loss)) for loss in losses.values()), losses
    losses["loss"].backward()
    assert [n for n, p in model.named_parameters() if p.trainable and p.grad is None] == []


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.stem.endswith("_1x_coco")], ids=lambda path: path.stem
)
def test_parameters_are_as_many_as_published(path: Path, tmp_path: Path) -> None:
    found = re.fullmatch(r"(retinanet|mask_rcnn)_cyclemlp_b(\d)_1x_coco", path.stem)
    assert found
    published = PUBLISHED[found[1]][int(found[2])]
    with paddle.LazyGuard():  # counted, not filled
        model = build(path, tmp_path)
    count = sum(int(p.size) for p in model.parameters()) / 1e6
    assert count == pytest.approx(published, rel=0.01)
    assert f"{published:.1f} M parameters" in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_normalisation_is_the_weights(path: Path) -> None:
    values = Configuration.load(path).values
    for reader in ("TrainReader", "EvalReader", "TestReader"):
        steps = {name: given for step in values[reader]["sample_transforms"] for name, given in step.items()}
        assert steps["NormalizeImage"] == {
            "is_scale": True,
            "mean": list(IMAGENET_MEAN),
            "std": list(IMAGENET_STD),
        }


@pytest.mark.parametrize("kind", ["retinanet", "mask_rcnn"])
def test_schedule_is_the_papers(kind: str) -> None:
    cfg = Configuration.load(CONFIGS / f"{kind}_cyclemlp_b2_1x_coco.yaml").activate()
    assert (cfg.epoch, cfg.num_classes, cfg.TrainReader["batch_size"] * 8) == (12, 80, 16)
    rates = create("LearningRate")(7330)  # steps of 16 images in train2017
    seen = []
    for step in (0, 499, 500, 8 * 7330 - 1, 8 * 7330, 11 * 7330 - 1, 11 * 7330):
        rates.step(step)
        seen.append(rates.get_lr())
    assert seen == pytest.approx([1e-7, 1e-4 * 499 / 500, 1e-4, 1e-4, 1e-5, 1e-5, 1e-6], rel=2e-3)
    optimizer = create("OptimizerBuilder")(rates, paddle.nn.Linear(2, 2))
    assert type(optimizer).__name__ == "AdamW"
    assert optimizer._weight_decay == 1e-4


def test_sampling_ratio_is_set_where_rois_are_cut_out() -> None:
    values = Configuration.load(CONFIGS / "mask_rcnn_cyclemlp_b1_1x_coco.yaml").values
    assert [values[head]["roi_extractor"]["sampling_ratio"] for head in ("BBoxHead", "MaskHead")] == [2, 2]


def test_loading_a_second_file_leaves_nothing_of_the_first() -> None:
    Configuration.load(CONFIGS / "scenes_mask_rcnn.yaml").activate()
    cfg = Configuration.load(CONFIGS / "bccd.yaml").activate()
    assert cfg.num_classes == 3
    assert cfg.architecture == "RetinaNet"
    assert dict(cfg["MaskFeat"]) == {}


def test_epochs_stretch_the_schedule() -> None:
    values = Configuration.load(CONFIGS / "mask_rcnn_cyclemlp_b1_1x_coco.yaml", epochs=36).values
    assert values["epoch"] == 36
    assert values["LearningRate"]["schedulers"][0]["milestones"] == [24, 33]
    values = Configuration.load(CONFIGS / "bccd.yaml", epochs=10).values
    assert values["LearningRate"]["schedulers"][0]["max_epochs"] == 10


def test_saved_config_is_loaded_the_same(tmp_path: Path) -> None:
    config = Configuration.load(CONFIGS / "scenes_mask_rcnn.yaml", {"TrainReader.batch_size": 3})
    (tmp_path / "recipe.yaml").write_text(config.to_yaml())
    again = Configuration.load(tmp_path / "recipe.yaml").values
    assert {k: v for k, v in again.items() if k != "filename"} == {
        k: v for k, v in config.values.items() if k != "filename"
    }


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"TrainReder.batch_size": 2}, r"no TrainReder \(did you mean TrainReader\?\)"),
        (
            {"RetinaHead.num_clases": 2},
            r"RetinaHead has no option 'num_clases' \(did you mean num_classes\?\)",
        ),
        ({"epcoh": 2}, r"reads no such key \(did you mean epoch\?\)"),
        ({"architecture": "RetinaNt"}, r"no architecture 'RetinaNt' \(did you mean RetinaNet\?\)"),
        ({"TrainReader.sample_transforms.9.Decode": {}}, r"there is no TrainReader.sample_transforms.9"),
    ],
)
def test_a_slip_is_an_error(overrides: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Configuration.load(CONFIGS / "bccd.yaml", overrides)


def test_files_that_cannot_be_read_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such configuration"):
        Configuration.load(tmp_path / "none.yaml")
    (tmp_path / "a.yaml").write_text("a: [1\nb: 2")
    with pytest.raises(ConfigError, match=r"a\.yaml:2: not YAML"):
        Configuration.load(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("_BASE_: [none.yaml]")
    with pytest.raises(ConfigError, match=r"its base 'none\.yaml' does not exist: neither .*none\.yaml, nor"):
        Configuration.load(tmp_path / "b.yaml")
    (tmp_path / "c.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match=r"holds \[1\]; a configuration is a mapping"):
        Configuration.load(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("num_classes", "abc", "num_classes is 'abc'; expected a whole number from 1"),
        ("num_classes", 0, "num_classes is 0"),
        ("num_classes", True, "num_classes is True"),
        ("epoch", 0, "epoch is 0"),
        ("epoch", 1.5, r"epoch is 1\.5"),
        ("snapshot_epoch", -1, "snapshot_epoch is -1"),
        ("log_iter", 0, "log_iter is 0"),
        ("worker_num", -3, "worker_num is -3; expected a whole number from 0"),
        ("TrainReader.batch_size", 0, r"TrainReader\.batch_size is 0"),
        ("EvalReader.batch_size", "4", r"EvalReader\.batch_size is '4'"),
        ("TrainReader.sample_transforms", 5, r"TrainReader\.sample_transforms is 5; expected a list"),
        ("TestReader.batch_transforms", ["Permute"], r"TestReader\.batch_transforms is \['Permute'\]"),
        ("LearningRate", 5, "LearningRate is 5; expected its options"),
        ("RetinaNet", None, "RetinaNet is None; expected its options"),
        ("TrainDataset", 5, "TrainDataset is 5; describe it"),
        ("TrainDataset.image_dir", 5, r"TrainDataset\.image_dir is 5; expected a path"),
        ("EvalDataset.anno_path", ["a.json"], r"EvalDataset\.anno_path is \['a\.json'\]"),
        ("TrainDataset.data_fields", ["image"], r"data_fields is \['image'\]; training needs"),
    ],
)
def test_values_of_the_wrong_type_are_named(key: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Configuration.load(CONFIGS / "scenes.yaml", {key: value})


def test_data_that_are_not_there_are_errors(tmp_path: Path, tiny: Path) -> None:
    config = Configuration.load(CONFIGS / "scenes.yaml", {"TrainDataset.dataset_dir": str(tmp_path / "none")})
    with pytest.raises(
        DataError, match=r"TrainDataset\.dataset_dir is .*none.*--set TrainDataset\.dataset_dir=DIR"
    ):
        config.data("TrainDataset")
    config = Configuration.load(
        CONFIGS / "scenes.yaml",
        {"TrainDataset.dataset_dir": str(tiny), "TrainDataset.anno_path": "annotations/train.json"},
    )
    with pytest.raises(ConfigError, match=r"num_classes is 10, .* has 3 categories .red, green, blue."):
        config.categories("TrainDataset")
