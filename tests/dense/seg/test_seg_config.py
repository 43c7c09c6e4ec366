"""Reading PaddleSeg's YAML: overrides, our own keys, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from seg_fixtures import CLASSES, config_values, write_config, write_data

from cyclemlp.dense.seg.config import Builder, RunSettings, open_config
from cyclemlp.errors import ConfigError, CycleMLPError, DataError, ModelError


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    return config_values(write_data(tmp_path / "data"))


@pytest.fixture
def path(tmp_path: Path, values: dict[str, Any]) -> Path:
    return write_config(tmp_path / "mine.yaml", values)


def test_overrides_of_any_depth_and_numbers_with_an_exponent(path: Path) -> None:
    config = open_config(
        path,
        {
            "iters": 7,
            "optimizer.weight_decay": "1e-3",  # YAML 1.1 takes this for text
            "train_dataset.transforms.0.mean": [0.5, 0.5, 0.5],
            "run.seed": 3,
            "test_config.is_slide": False,
        },
    )
    assert config.iters == 7
    assert config.optimizer_cfg["weight_decay"] == 1e-3
    assert config.train_dataset_cfg["transforms"][0]["mean"] == [0.5, 0.5, 0.5]
    assert config.val_dataset_cfg["transforms"][0]["mean"] == [0.485, 0.456, 0.406]
    assert config.run == RunSettings(save_interval=15, log_iters=5, workers=0, seed=3)
    assert config.test_config == {"is_slide": False}


def test_what_is_written_reads_the_same(path: Path, tmp_path: Path) -> None:
    config = open_config(path, {"iters": 7})
    again = tmp_path / "again.yaml"
    again.write_text(config.to_yaml())
    other = open_config(again)
    assert (other.dic["model"], other.iters, other.run) == (config.dic["model"], 7, config.run)


def test_data_elsewhere(path: Path, tmp_path: Path) -> None:
    other = write_data(tmp_path / "other", count=5)
    build = Builder(open_config(path, data=str(other)))
    assert len(build.train_dataset) == 5
    assert build.val_dataset.file_list[0][0].startswith(str(other))


def test_class_names(path: Path, tmp_path: Path) -> None:
    assert open_config(path).class_names() == CLASSES
    assert open_config(path, {"classes": None}).class_names() == ["0", "1", "2"]
    names = tmp_path / "names.txt"
    names.write_text("0 a\n1 b\n2 c d\n")
    assert open_config(path, {"classes": str(names)}).class_names() == ["a", "b", "c d"]
    with pytest.raises(ConfigError, match="2 names, and the model has 3 classes"):
        open_config(path, {"classes": ["a", "b"]}).class_names()


def test_trained_weights_take_the_place_of_pretrained_ones(path: Path) -> None:
    config = open_config(path, {"model.backbone.pretrained": "no_such_file.pth"})
    assert "pretrained" not in config.for_trained_weights().model_cfg["backbone"]
    assert config.model_cfg["backbone"]["pretrained"] == "no_such_file.pth"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"itres": 3}, r"no key 'itres' \(did you mean iters\?\)"),
        ({"train_dataset.transforms.1.mean": 3}, "transforms is a list of 1"),
        ({"iters.more": 3}, "iters is 30, not a mapping"),
        ({"run.save_intervall": 3}, r"run\.save_intervall is unknown \(did you mean save_interval"),
        ({"run.workers": -1}, r"run\.workers is -1; it must be a whole number from 0"),
        ({"run.precision": "fp8"}, "possible are fp32 or fp16"),
        ({"run": 3}, "run is 3; expected a mapping"),
        ({"train_dataset.num_classes": 4}, "num_classes.*not consistent"),
    ],
)
def test_mistakes_in_a_configuration(path: Path, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_config(path, overrides)


@pytest.mark.parametrize(
    ("overrides", "kind", "message"),
    [
        ({"model.type": "NoSuchNet"}, ConfigError, "cannot build model.*NoSuchNet"),
        ({"model.backbone.depths": [1, 2]}, ModelError, "depths=.*four numbers of blocks"),
        ({"optimizer.weight_decay": 1}, ConfigError, "cannot build optimizer.*must be a float"),
        (
            {"train_dataset.train_path": "no_list.txt"},
            DataError,
            r"train_dataset\.train_path is no_list\.txt",
        ),
        ({"train_dataset.dataset_root": "nowhere"}, DataError, r"nowhere, which does not exist.*--data DIR"),
    ],
)
def test_what_cannot_be_built(
    path: Path, overrides: dict[str, Any], kind: type[CycleMLPError], message: str
) -> None:
    build = Builder(open_config(path, overrides))
    with pytest.raises(kind, match=message):
        _ = build.train_dataset, build.model, build.loss, build.optimizer


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        open_config(tmp_path / "none.yaml")
    (tmp_path / "a.txt").write_text("iters: 3")
    with pytest.raises(ConfigError, match=r"from \.yml and \.yaml"):
        open_config(tmp_path / "a.txt")
    (tmp_path / "b.yaml").write_text("iters: [3")
    with pytest.raises(ConfigError, match="not YAML"):
        open_config(tmp_path / "b.yaml")
    (tmp_path / "c.yaml").write_text("_base_: none.yaml")
    with pytest.raises(ConfigError, match=r"its base 'none\.yaml' does not exist"):
        open_config(tmp_path / "c.yaml")
    (tmp_path / "d.yaml").write_text("iters: 3")
    with pytest.raises(ConfigError, match="PaddleSeg refuses it: No batch_size"):
        open_config(tmp_path / "d.yaml")


def test_a_key_that_nothing_reads_is_warned_of(values: dict[str, Any], tmp_path: Path) -> None:
    path = write_config(tmp_path / "c.yaml", {**values, "test_cfg": {}})
    with pytest.warns(UserWarning, match=r"'test_cfg' \(did you mean test_config\?\) has no effect"):
        open_config(path)


def test_a_dataset_that_paddleseg_would_download_is_an_error(path: Path, tmp_path: Path) -> None:
    dataset = {"type": "ADE20K", "mode": "train", "transforms": []}
    overrides = {"train_dataset": dataset, "val_dataset": dataset, "model.num_classes": 150}
    build = Builder(open_config(path, overrides))
    with pytest.raises(DataError, match="dataset_root is not set; say where the data are with --data DIR"):
        _ = build.train_dataset
    missing = open_config(path, {**overrides, "train_dataset.dataset_root": str(tmp_path / "ADE")})
    with pytest.raises(DataError, match=r"ADE, which does not exist"):
        _ = Builder(missing).train_dataset
