"""A tiny data set, and the shortest configurations that train on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_coco import make_tiny_coco

from cyclemlp.dense.compat import apply_mends

CONFIGS = Path(__file__).parents[3] / "configs/det"


@pytest.fixture(scope="session", autouse=True)
def _mended() -> None:
    """As our own commands do."""
    import cyclemlp.dense.det  # noqa: F401

    apply_mends("ppdet")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a data set of six pictures, the last without an object."""
    return make_tiny_coco(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In an empty folder, which must be empty afterwards: the engine likes to write into the current one."""
    here = tmp_path / "current"
    here.mkdir()
    monkeypatch.chdir(here)
    yield
    assert list(here.iterdir()) == []


def small_overrides(data: Path) -> dict[str, Any]:
    """For configs/det/scenes.yaml and scenes_mask_rcnn.yaml: the tiny data set, and a backbone as narrow as it goes."""
    return {
        **{f"{kind}Dataset.dataset_dir": str(data) for kind in ("Train", "Eval", "Test")},
        "TrainDataset.anno_path": "annotations/train.json",
        "EvalDataset.anno_path": "annotations/val.json",
        "TestDataset.anno_path": "annotations/val.json",
        "num_classes": 3,
        "CycleMLP_Micro.embed_dims": [8, 12, 16, 24],
        "CycleMLP_Micro.depths": [1, 1, 1, 1],
        "FPN.out_channel": 16,
        "TrainReader.batch_size": 2,
        "TrainReader.sample_transforms.1.RandomResize.target_size": [[64, 96]],
        "EvalReader.sample_transforms.1.Resize.target_size": [64, 96],
        "TestReader.sample_transforms.1.Resize.target_size": [64, 96],
    }


BOXES = {
    "RetinaHead.conv_feat.feat_in": 16,
    "RetinaHead.conv_feat.feat_out": 16,
    "RetinaHead.conv_feat.num_convs": 1,
}
MASKS = {"MaskFeat.out_channel": 16, "MaskFeat.num_convs": 1, "TwoFCHead.out_channel": 32}
