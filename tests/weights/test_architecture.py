"""What tensors tell of an architecture, and what is said where a file's is another than was assumed."""

from pathlib import Path

import numpy as np
import pytest
from weights_fixtures import published_shapes

import cyclemlp
from cyclemlp.cli.main import main
from cyclemlp.errors import WeightsError
from cyclemlp.models import identify
from cyclemlp.network import VARIANTS
from cyclemlp.weights import WeightFile, architecture_differences, read_architecture, write_weights

SMALL = {"embed_dims": (8, 12, 16, 20), "depths": (1, 1, 2, 1), "num_classes": 6}
TINY = "cyclemlp_t_inferred"


def shapes_of(model):
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def architecture_of(shapes):
    return {name: trait.value for name, trait in read_architecture(shapes).items()}


def in_authors_layout(path, name=TINY, rename=lambda name: name, **overrides):
    """A file as the authors write them, of a network with other values; weights from its initialisation."""
    model = cyclemlp.create_model(name, **{**SMALL, **overrides})
    tensors = {rename(name): tensor.numpy() for name, tensor in model.state_dict().items()}
    write_weights(path, tensors, layout="authors")
    return model


@pytest.mark.parametrize("number", range(1, 6))
def test_of_the_published_files(number):
    found = architecture_of(published_shapes(f"b{number}"))
    config = VARIANTS[f"cyclemlp_b{number}"].config.to_dict()
    assert set(found) == {
        *("embed_dims", "depths", "mlp_ratios", "patch_size"),
        *("patch_norm", "branches", "gate", "downsample"),
    }
    assert found == {name: config[name] for name in found}


@pytest.mark.parametrize(
    "overrides",
    [
        {"gate": False},
        {"downsample": "merge", "patch_norm": True, "patch_size": 4},
        {"branches": ("h", "c")},
        {"mlp_ratios": (4, 2, 0.5, 4)},
    ],
)
def test_of_networks_with_other_values(overrides):
    model = cyclemlp.create_model("cyclemlp_micro", **SMALL, **overrides)
    config = model.config.to_dict()
    found = architecture_of(shapes_of(model))
    assert found == {name: config[name] for name in found}


def test_other_networks_have_none():
    assert read_architecture({"conv1.weight": (64, 3, 7, 7), "fc.weight": (512, 1000)}) == {}
    assert architecture_differences({"a": (1,)}, {"b": (1,)}) == []


@pytest.mark.parametrize(
    ("form", "sentences"),
    [
        (
            {"gate": True},
            [
                "the file has a gate MLP (network.0.0.attn.reweight.fc1.weight [8, 2]): {} no gate MLP (gate=False)"
            ],
        ),
        (
            {"downsample": "conv"},
            [
                (
                    "the file has a convolution between the stages (network.1.proj.weight [12, 8, 3, 3]): {} "
                    "patch merging between the stages (downsample='merge')"
                )
            ],
        ),
        (
            {"embed_dims": (8, 16, 32, 64)},
            [
                (
                    "the file has stages of the widths 8, 16, 32, 64 (network.6.0.norm1.weight [64]): {} stages of the "
                    "widths 8, 12, 16, 20 (embed_dims=(8, 12, 16, 20))"
                )
            ],
        ),
        (
            {"patch_size": 7, "patch_norm": False, "depths": (1, 1, 6, 1)},
            [
                (
                    "the file has patches of 7×7 pixels (patch_embed.proj.weight [8, 3, 7, 7]): {} patches of 4×4 "
                    "pixels (patch_size=4)"
                ),
                (
                    "the file has no norm after the patch embedding (no patch_embed.norm.weight): {} a norm after the "
                    "patch embedding (patch_norm=True)"
                ),
                (
                    "the file has stages of 1, 1, 6, 1 blocks (network.6.0.norm1.weight [20]): {} stages of 1, 1, 2, 1 "
                    "blocks (depths=(1, 1, 2, 1))"
                ),
            ],
        ),
        (
            {"branches": ("h", "w"), "mlp_ratios": (3, 4, 4, 4)},
            [
                (
                    "the file has channel MLPs of 3, 4, 4, 4 times the width (network.0.0.mlp.fc1.bias [24]): {} "
                    "channel MLPs of 4, 4, 4, 4 times the width (mlp_ratios=(4, 4, 4, 4))"
                ),
                (
                    "the file has the branches h, w (network.0.0.attn.sfc_h.weight, network.0.0.attn.sfc_w.weight): {} "
                    "the branches h, w, c (branches=('h', 'w', 'c'))"
                ),
            ],
        ),
    ],
)
def test_which_assumption_fails(form, sentences, tmp_path):
    path = tmp_path / "CycleMLP_tiny.safetensors"
    in_authors_layout(path, **form)
    with pytest.raises(WeightsError) as caught:
        cyclemlp.create_model(TINY, pretrained=path, **SMALL)
    first, *lines = str(caught.value).split("\n  ")
    assert "does not fit the model" in first
    assert lines[: len(sentences)] == [s.format(f"{TINY} is assumed to have") for s in sentences]
    listed = [line for line in lines[len(sentences) :] if not line.startswith("… and")]
    assert listed == list(caught.value.mismatches[: len(listed)])
    assert all(line.startswith(("missing", "unexpected", "mis-shaped")) for line in caught.value.mismatches)
    assert f" {len(caught.value.mismatches)} tensors differ" in first
    # The way out that the sentences name is one.
    cyclemlp.create_model(TINY, pretrained=path, **{**SMALL, **form})


def test_every_tensor_fits(tmp_path, capsys):
    path = tmp_path / "CycleMLP_tiny.safetensors"
    published = in_authors_layout(path)
    model = cyclemlp.create_model(TINY, **SMALL)
    report = str(cyclemlp.load_weights(model, path))
    count = len(model.state_dict())
    assert report.startswith(f"{count} of {count} tensors loaded")
    assert f"what was assumed of {TINY} holds for this file as far as names and shapes show" in report
    for name, tensor in published.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name].numpy(), tensor.numpy())
    cyclemlp.save_model(model, tmp_path / "ours.safetensors")
    assert "assumed" not in str(
        cyclemlp.load_weights(model, tmp_path / "ours.safetensors")
    )  # it proves nothing


def test_a_file_with_the_names_of_swins_code(tmp_path):
    def rename(name):
        part, _, rest = name.partition("network.")
        if part or not rest:
            return name
        index, _, rest = rest.partition(".")
        stage = int(index) // 2
        return f"layers.{stage}.downsample.{rest}" if int(index) % 2 else f"layers.{stage}.blocks.{rest}"

    path = tmp_path / "CycleMLP_tiny.safetensors"
    published = in_authors_layout(path, rename=rename)
    model = cyclemlp.create_model(TINY, **SMALL)
    report = str(cyclemlp.load_weights(model, path))
    assert "its names are those of Swin's code (layers.0.blocks.0 …), read as network.0.0 …" in report
    for name, tensor in published.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name].numpy(), tensor.numpy())


def test_names_that_no_one_assumed(tmp_path):
    path = tmp_path / "CycleMLP_tiny.safetensors"
    in_authors_layout(path, rename=lambda name: name.replace("network.", "stages."))
    with pytest.raises(
        WeightsError, match=rf"no stages network\.0\.0 …, .*: {TINY} is assumed to have the names of B1"
    ):
        cyclemlp.create_model(TINY, pretrained=path, **SMALL)


def test_a_known_variants_sentence_is_no_assumption(tmp_path):
    in_authors_layout(tmp_path / "w.safetensors", "cyclemlp_nano", gate=False)
    with pytest.raises(WeightsError, match=r"the file has no gate MLP .*: cyclemlp_nano has a gate MLP"):
        cyclemlp.create_model("cyclemlp_nano", pretrained=tmp_path / "w.safetensors", **SMALL)


# ---- cyclemlp info


def zeros(name, **overrides):
    """A published file's tensors without their memory."""
    shapes = shapes_of(cyclemlp.create_model(name, **overrides))
    tensors = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    return WeightFile(Path("CycleMLP_tiny.pth"), tensors, "authors")


@pytest.mark.heavy
def test_the_nearest_variant_of_a_stranger():
    facts = identify(zeros(TINY))
    assert (facts["variant"], facts["fits"], facts["differences"]) == (TINY, True, [])
    assert "what was assumed of cyclemlp_t_inferred holds" in facts["match"]
    facts = identify(zeros(TINY, gate=True, downsample="conv", patch_size=7, patch_norm=False))
    assert (facts["variant"], facts["fits"]) == (TINY, False)
    assert len(facts["differences"]) == 4
    assert all(f"{TINY} is assumed to have" in sentence for sentence in facts["differences"])
    assert facts["architecture"]["downsample"] == "conv"


def test_info_names_the_variant_that_a_file_fits(tmp_path, capsys):
    path = tmp_path / "bare.safetensors"
    in_authors_layout(
        path, "cyclemlp_nano", **VARIANTS["cyclemlp_nano"].config.differences(VARIANTS[TINY].config)
    )
    assert main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "variant: cyclemlp_nano" in out
    assert "fits: yes" in out


def test_info_marks_what_is_inferred(capsys):
    assert main(["info", TINY]) == 0
    assert "note: inferred; no published weights confirm it" in capsys.readouterr().out
    assert main(["info"]) == 0
    marked = [
        line for line in capsys.readouterr().out.splitlines() if "no published weights confirm it" in line
    ]
    assert [line.split()[0] for line in marked] == [f"cyclemlp_{size}_inferred" for size in "tsb"]
