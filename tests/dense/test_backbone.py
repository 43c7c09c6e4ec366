"""The backbone that both engines get: maps, weights, frozen stages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest

import cyclemlp
from cyclemlp.dense.backbone import BACKBONES, DenseBackbone
from cyclemlp.errors import ModelError, WeightsError
from cyclemlp.models import load_weights


@pytest.fixture(scope="module")
def classifier_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "classifier.safetensors"
    paddle.seed(3)
    cyclemlp.save_model(cyclemlp.create_model("cyclemlp_micro", num_classes=5), path)
    return path


def test_importing_the_package_touches_no_engine() -> None:
    code = (
        "import sys, cyclemlp; cyclemlp.create_model('cyclemlp_nano'); import cyclemlp.cli.main; "
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('paddleseg', 'ppdet')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_maps_are_the_feature_form_s(classifier_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backbone = DenseBackbone("cyclemlp_micro", pretrained=classifier_file, out_indices=(1, 3))
    said = capsys.readouterr().out
    assert f"tensors loaded from {classifier_file}" in said
    assert "left as initialised: norm2.weight" in said

    same = cyclemlp.create_model("cyclemlp_micro", features_only=True, out_indices=(1, 3))
    load_weights(same, classifier_file)
    backbone.eval()
    same.eval()
    image = paddle.randn([1, 3, 70, 101])  # no multiple of 32
    maps = backbone(image)
    assert [tuple(m.shape) for m in maps] == [(1, 64, 9, 13), (1, 192, 3, 4)]
    for ours, theirs in zip(maps, same(image), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_parameters_keep_their_published_names_and_none_is_unused() -> None:
    backbone = DenseBackbone("cyclemlp_micro", out_indices=(0, 2))
    names = list(backbone.state_dict())
    assert "network.0.0.attn.sfc_h.weight" in names
    assert {n.split(".")[0] for n in names if n.startswith("norm")} == {"norm0", "norm4"}
    assert not any(n.startswith(("network.5", "network.6", "head")) for n in names)
    paddle.add_n([m.mean() for m in backbone(paddle.randn([1, 3, 32, 32]))]).backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None] == []


def test_a_file_of_another_model_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "nano.safetensors"
    cyclemlp.save_model(cyclemlp.create_model("cyclemlp_nano"), path)
    with pytest.raises(WeightsError, match="does not fit the model"):
        DenseBackbone("cyclemlp_micro", pretrained=path)
    with pytest.raises(WeightsError, match=r"no_such\.pth"):
        DenseBackbone("cyclemlp_micro", pretrained=tmp_path / "no_such.pth")


def test_frozen_stages_keep_their_weights_in_training() -> None:
    backbone = DenseBackbone("cyclemlp_nano", freeze_stages=2, drop_path_rate=0.5)
    backbone.train()
    before = {name: tensor.numpy().copy() for name, tensor in backbone.state_dict().items()}
    optimizer = paddle.optimizer.AdamW(1e-2, parameters=backbone.parameters())
    paddle.add_n([m.square().sum() for m in backbone(paddle.randn([2, 3, 32, 32]))]).backward()
    optimizer.step()
    changed = {n for n, t in backbone.state_dict().items() if not np.array_equal(before[n], t.numpy())}
    frozen = ("patch_embed.", "network.0.", "network.1.", "network.2.")
    assert changed
    assert not any(name.startswith(frozen) for name in changed)
    assert any(name.startswith("network.4.") for name in changed)
    assert not backbone.network[2].training
    assert backbone.network[6].training


@pytest.mark.parametrize("count", [-1, 4, True, "2"])
def test_impossible_freezing(count: object) -> None:
    with pytest.raises(ModelError, match="has 3 stages: give a whole number from 0"):
        DenseBackbone("cyclemlp_nano", out_indices=(1, 2), freeze_stages=count)


def test_recompute_gives_the_same_gradients() -> None:
    paddle.seed(0)
    plain = DenseBackbone("cyclemlp_nano")
    again = DenseBackbone("cyclemlp_nano", recompute=True)
    again.set_state_dict(plain.state_dict())
    image = paddle.randn([1, 3, 48, 48])
    for backbone in (plain, again):
        backbone.train()
        paddle.add_n([m.square().sum() for m in backbone(image)]).backward()
    for (name, a), (_, b) in zip(plain.named_parameters(), again.named_parameters(), strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=0, atol=1e-5, err_msg=name)


def test_overrides_that_are_none_keep_the_variant_s() -> None:
    backbone = DenseBackbone("cyclemlp_b1", depths=None, embed_dims=(16, 16, 32, 32))
    assert backbone.config.depths == (2, 2, 4, 2)
    assert backbone.feature_channels == [16, 16, 32, 32]


def test_every_variant_has_its_name() -> None:
    assert sorted(BACKBONES.values()) == sorted(cyclemlp.list_models())
    assert list(BACKBONES)[:5] == [f"CycleMLP_B{i}" for i in range(1, 6)]
