"""The variants as PaddleSeg's backbones, built as it builds them; Semantic FPN over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest
from paddleseg.cvlibs import manager

import cyclemlp
from cyclemlp.dense.backbone import BACKBONES
from cyclemlp.dense.seg import SemanticFPN, seg_backbones
from cyclemlp.errors import ModelError


def build(name: str, **options: object) -> paddle.nn.Layer:
    return manager.BACKBONES[name](**options)


def test_all_variants_are_registered_under_their_names() -> None:
    assert {name.lower() for name in BACKBONES} == set(cyclemlp.list_models())
    assert {"CycleMLP_B1", "CycleMLP_B_Inferred", "CycleMLP_Nano_Deep"} < set(BACKBONES)
    for name in BACKBONES:
        assert manager.BACKBONES[name] is seg_backbones[name]
        assert seg_backbones[name].__name__ == name
    assert manager.MODELS["SemanticFPN"] is SemanticFPN


def test_a_backbone_gives_a_list_of_the_maps_it_announces(tmp_path: Path) -> None:
    paddle.seed(1)
    path = tmp_path / "weights.safetensors"
    cyclemlp.save_model(cyclemlp.create_model("cyclemlp_micro", features_only=True), path)
    backbone = build("CycleMLP_Micro", pretrained=str(path), out_indices=[0, 2, 3])
    backbone.eval()
    assert backbone.feat_channels == [32, 128, 192]
    image = paddle.randn([1, 3, 53, 78])
    maps = backbone(image)
    assert isinstance(maps, list)
    same = cyclemlp.create_model("cyclemlp_micro", features_only=True, out_indices=(0, 2, 3), pretrained=path)
    same.eval()
    for ours, theirs in zip(maps, same(image), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_options_reach_the_network() -> None:
    backbone = build(
        "CycleMLP_Nano", in_channels=1, drop_path_rate=0.3, freeze_stages=1, recompute=True, step_size=5
    )
    assert (backbone.config.in_chans, backbone.config.drop_path_rate) == (1, 0.3)
    assert backbone.config.recompute
    assert backbone.config.step_size == 5
    assert backbone.patch_embed.proj.weight.stop_gradient
    with pytest.raises(ModelError, match="unknown override 'stepsize'"):
        build("CycleMLP_Nano", stepsize=5)


def test_semantic_fpn_gives_logits_of_the_image_s_size_and_uses_every_parameter() -> None:
    model = SemanticFPN(5, build("CycleMLP_Nano"), fpn_channels=16, channels=8)
    image = paddle.randn([2, 3, 50, 75])  # no multiple of 16
    (logits,) = model(image)
    assert tuple(logits.shape) == (2, 5, 50, 75)
    logits.square().mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None and not p.stop_gradient] == []


def test_semantic_fpn_s_head_has_the_published_widths() -> None:
    # 1×1 and 3×3 convolutions of the pyramid; 1 + 1 + 2 + 3 of the head with batch norm; the classifier.
    widths = (64, 128, 320, 512)
    fpn = sum(c * 256 + 256 for c in widths) + 4 * (256 * 256 * 9 + 256)
    head = 4 * 256 * 128 * 9 + 3 * 128 * 128 * 9 + 7 * 2 * 128
    expected = fpn + head + 128 * 150 + 150
    backbone = paddle.nn.Identity()
    backbone.feat_channels = list(widths)
    model = SemanticFPN(150, backbone)
    assert sum(p.size for p in model.parameters() if not p.stop_gradient) == expected


def test_semantic_fpn_takes_some_of_the_maps_and_refuses_others() -> None:
    model = SemanticFPN(2, build("CycleMLP_Nano"), backbone_indices=[1, 3], fpn_channels=8, channels=8)
    assert tuple(model(paddle.randn([1, 3, 32, 32]))[0].shape) == (1, 2, 32, 32)
    with pytest.raises(ModelError, match="the backbone gives 4 maps"):
        SemanticFPN(2, build("CycleMLP_Nano"), backbone_indices=[1, 4])
