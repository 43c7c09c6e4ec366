"""Every configuration of configs/seg, through PaddleSeg's own parser and builder."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paddle
import pytest
from seg_fixtures import config_values, write_config, write_data

import cyclemlp
from cyclemlp.dense.seg.config import Builder, SegConfig, open_config
from cyclemlp.preprocessing import Preprocessing

ROOT = Path(__file__).parents[3]
CONFIGS = sorted(p.stem for p in (ROOT / "configs/seg").glob("[!_]*.yaml"))
#: Of the paper: parameters in millions.
PUBLISHED = {f"semantic_fpn_cyclemlp_b{i}_ade20k": m for i, m in enumerate((18.9, 30.6, 42.1, 55.6, 79.4), 1)}
QUICK = ("semantic_fpn_cyclemlp_b1", "segformer_head_cyclemlp_b1")


def open_without_weights(name: str) -> SegConfig:
    return open_config(ROOT / f"configs/seg/{name}.yaml").for_trained_weights()


def test_there_is_a_config_of_each_head_for_each_variant() -> None:
    heads = ("semantic_fpn", "upernet", "segformer_head")
    paper = {f"{head}_cyclemlp_b{i}_ade20k" for head in heads for i in range(1, 6)}
    assert set(CONFIGS) - paper == {"own_data", "pets3", "pets3_resnet18", "scenes"}
    assert paper <= set(CONFIGS)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name.startswith(QUICK) or "ade20k" not in name else pytest.mark.heavy)
        for name in CONFIGS
    ],
)
def test_it_builds_and_learns_and_has_the_parameters_that_it_says(name: str) -> None:
    config = open_without_weights(name)
    build = Builder(config)
    model = build.model
    model.train()
    image = paddle.randn([2, 3, 64, 64])
    label = paddle.randint(0, config.num_classes, [2, 64, 64])
    logits = model(image)
    assert tuple(logits[0].shape) == (2, config.num_classes, 64, 64)
    engine = importlib.import_module("paddleseg.core.train")
    loss = paddle.add_n(engine.loss_computation(logits, label, None, build.loss))
    loss.backward()
    assert np.isfinite(loss.item())
    gradients = [p.grad for n, p in model.named_parameters() if "patch_embed" in n or "conv1" in n]
    assert all(float(g.abs().max()) > 0 for g in gradients if g is not None)
    assert gradients

    millions = sum(p.size for p in model.parameters() if not p.stop_gradient) / 1e6
    if name in PUBLISHED:
        assert millions == pytest.approx(PUBLISHED[name], rel=0.01)
    if "ade20k" in name:
        text = (ROOT / f"configs/seg/{name}.yaml").read_text()
        assert f"{millions:.2f} M" in text


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("head", "built", "unused"),
    [
        ({"type": "PFPNNet", "channels": 256, "fpn_inplanes": [64, 128, 320, 512]}, 23.84, 4.76),
        ({"type": "PFPNNet", "channels": 128, "fpn_inplanes": [64, 128, 320, 512]}, 17.03, 1.20),
        ({"type": "UPerNet", "channels": 512, "enable_auxiliary_loss": True}, 46.98, 9.52),
    ],
    ids=["PFPNNet-256", "PFPNNet-128", "UPerNet"],
)
def test_heads_of_paddleseg_have_layers_that_no_output_depends_on(
    head: dict[str, Any], built: float, unused: float
) -> None:
    model_values = {"num_classes": 150, "backbone_indices": [0, 1, 2, 3], "backbone": {"type": "CycleMLP_B1"}}
    config = open_config(
        ROOT / "configs/seg/semantic_fpn_cyclemlp_b1_ade20k.yaml", {"model": {**model_values, **head}}
    )
    model = Builder(config).model
    model.train()
    paddle.add_n([logits.mean() for logits in model(paddle.randn([2, 3, 64, 64]))]).backward()
    parameters = [p for p in model.parameters() if not p.stop_gradient]
    assert sum(p.size for p in parameters) / 1e6 == pytest.approx(built, abs=0.005)
    assert sum(p.size for p in parameters if p.grad is None) / 1e6 == pytest.approx(unused, abs=0.005)


@pytest.mark.parametrize("name", PUBLISHED)
def test_semantic_fpn_is_set_as_in_the_paper(name: str) -> None:
    config = open_config(ROOT / f"configs/seg/{name}.yaml")
    assert config.iters == 40_000
    assert config.batch_size * 8 == 32
    assert config.optimizer_cfg == {"type": "AdamW", "weight_decay": 1e-4}
    schedule = {"type": "PolynomialDecay", "learning_rate": 2e-4, "end_lr": 0, "power": 0.9}
    assert config.lr_scheduler_cfg == schedule
    assert config.model_cfg["backbone"]["pretrained"] is True
    assert config.model_cfg["backbone"]["drop_path_rate"] == 0
    crop = [t for t in config.train_dataset_cfg["transforms"] if t["type"] == "RandomPaddingCrop"]
    assert crop[0]["crop_size"] == [512, 512]
    assert config.num_classes == 150
    assert config.ignore_index == 255


@pytest.mark.parametrize("name", CONFIGS)
def test_images_are_normalised_as_the_weights_were_trained(name: str) -> None:
    weights = cyclemlp.create_model("cyclemlp_nano").metadata.preprocessing
    config = open_config(ROOT / f"configs/seg/{name}.yaml")
    for dataset in (config.train_dataset_cfg, config.val_dataset_cfg):
        last = dataset["transforms"][-1]
        assert last == {"type": "Normalize", "mean": list(weights.mean), "std": list(weights.std)}


@pytest.mark.parametrize("mode", ["train", "val"])
def test_what_the_network_gets_is_rgb(tmp_path: Path, mode: str) -> None:
    data = write_data(tmp_path / "data", count=4)
    colour = (200, 100, 30)  # red, green, blue
    cv2.imwrite(str(data / "images/0.png"), np.full((48, 64, 3), colour[::-1], np.uint8))
    config = open_config(write_config(tmp_path / "c.yaml", config_values(data)))
    build = Builder(config)
    item: dict[str, Any] = (build.train_dataset if mode == "train" else build.val_dataset)[0]
    ours = Preprocessing()
    expected = [(v / 255 - m) / s for v, m, s in zip(colour, ours.mean, ours.std, strict=True)]
    np.testing.assert_allclose(item["img"][:, 5, 7], expected, atol=1e-5)
