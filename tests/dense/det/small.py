"""The configurations of the scenes, made as small as they go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parents[3] / "configs/det"


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
