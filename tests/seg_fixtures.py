"""A few tiny images with masks in PaddleSeg's format, and a configuration that learns them in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

CLASSES = ["background", "square", "bar"]


def write_data(folder: Path, count: int = 4, size: tuple[int, int] = (48, 64)) -> Path:
    """`count` images of `size` (height, width): an orange square and a blue bar on grey noise; train.txt, val.txt."""
    draw = np.random.default_rng(5)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    lines = []
    for i in range(count):
        image = draw.integers(90, 140, (*size, 3), dtype=np.uint8)
        mask = np.zeros(size, np.uint8)
        top, left = 4 + 3 * i, 6 + 4 * i
        image[top : top + 18, left : left + 18] = (230, 130, 20)
        mask[top : top + 18, left : left + 18] = 1
        image[-12:-4, :] = (20, 60, 220)
        mask[-12:-4, :] = 2
        mask[0] = 255
        Image.fromarray(image).save(folder / f"images/{i}.png")
        Image.fromarray(mask).save(folder / f"labels/{i}.png")
        lines.append(f"images/{i}.png labels/{i}.png\n")
    for name in ("train.txt", "val.txt"):
        (folder / name).write_text("".join(lines))
    return folder


def config_values(data: Path) -> dict[str, Any]:
    """Of a configuration that trains the smallest CycleMLP on all images of `data` in every step."""
    normalise = {"type": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    dataset = {"type": "Dataset", "dataset_root": str(data), "num_classes": 3, "transforms": [normalise]}
    return {
        "batch_size": 4,
        "iters": 30,
        "classes": CLASSES,
        "train_dataset": {**dataset, "mode": "train", "train_path": f"{data}/train.txt"},
        "val_dataset": {**dataset, "mode": "val", "val_path": f"{data}/val.txt"},
        "model": {
            "type": "SemanticFPN",
            "num_classes": 3,
            "fpn_channels": 16,
            "channels": 16,
            "dropout_ratio": 0.0,
            "backbone": {"type": "CycleMLP_Nano"},
        },
        "optimizer": {"type": "AdamW", "weight_decay": 0.01},
        "lr_scheduler": {"type": "PolynomialDecay", "learning_rate": 0.01, "end_lr": 0.0, "power": 0.9},
        "loss": {"types": [{"type": "CrossEntropyLoss"}], "coef": [1]},
        "run": {"save_interval": 15, "log_iters": 5, "workers": 0},
    }


def write_config(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path
