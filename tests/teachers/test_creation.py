"""Teachers: every kind answers as its own network does, and nothing but the right weights is accepted."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest
from golden import fill_batch_norm_network, image
from paddle import nn
from paddle.vision import models as vision

import cyclemlp
from cyclemlp.errors import ModelError, WeightsError
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.teachers import Teacher, create_teacher, list_teachers
from cyclemlp.teachers.regnet import REGNETX, RegNet
from cyclemlp.weights import write_weights

PADDLECLAS = np.load(Path(__file__).parents[1] / "fixtures" / "regnet" / "regnetx.npz")
GREY = Preprocessing(input_size=16, mean=(0.5,), std=(0.25,))


def answers(network, images):
    network.eval()
    with paddle.no_grad():
        logits = network(images)
    logits = (logits[0] if isinstance(logits, list | tuple) else logits).numpy()
    assert np.abs(logits).max() > 1e-2  # a dead network would answer alike whatever was loaded
    return logits


def disturb_statistics(network):
    """Running means and variances that show when they are not loaded."""
    for name, tensor in network.state_dict().items():
        if name.endswith("_mean"):
            tensor.set_value(paddle.uniform(tensor.shape, min=-0.3, max=0.3))
        elif name.endswith("_variance"):
            tensor.set_value(paddle.uniform(tensor.shape, min=0.5, max=1.5))


def small_cyclemlp(**overrides):
    paddle.seed(3)
    return cyclemlp.create_model("cyclemlp_nano", **{"num_classes": 5, "depths": [1, 1, 1, 1], **overrides})


# ---- kinds


@pytest.mark.parametrize(
    "name", ["RegNetX_200MF", "RegNetX_4GF", pytest.param("regnetx_4gf", marks=pytest.mark.heavy)]
)
def test_regnetx_from_a_file_as_paddleclas_saves_it(name, tmp_path):
    """PaddleClas's own logits come out, whatever the spelling of the name."""
    key = next(k for k in PADDLECLAS if k.lower().startswith(f"{name.lower()}_"))
    _, shape, _ = key.rsplit("_", 2)
    network = RegNet(REGNETX[name.lower()])
    fill_batch_norm_network(network, salt=0)
    tree = {key: value.numpy() for key, value in network.state_dict().items()}
    tree["StructuredToParameterName@@"] = {key: f"linear_{i}" for i, key in enumerate(tree)}
    path = tmp_path / "RegNetX_pretrained.pdparams"
    path.write_bytes(pickle.dumps(tree, protocol=2))
    teacher = create_teacher(name, path, num_classes=1000)
    logits = teacher(paddle.to_tensor(image(7, tuple(map(int, shape.split("x"))))))
    np.testing.assert_allclose(logits.numpy(), PADDLECLAS[key], rtol=0, atol=1e-5)
    assert str(path) in teacher.summary


def test_regnetx_from_the_time_when_its_convolutions_had_biases(tmp_path):
    paddle.seed(0)
    network = RegNet(REGNETX["regnetx_200mf"], 6)
    for layer in network.sublayers():
        if isinstance(layer, nn.Conv2D):
            layer.bias = layer.create_parameter([layer.weight.shape[0]], is_bias=True)
            layer.bias.set_value(paddle.uniform(layer.bias.shape, min=-0.5, max=0.5))
    disturb_statistics(network)
    paddle.save(network.state_dict(), str(tmp_path / "old.pdparams"))
    teacher = create_teacher("regnetx_200mf", tmp_path / "old.pdparams", num_classes=6)
    images = paddle.randn([2, 3, 64, 64])
    np.testing.assert_allclose(teacher(images).numpy(), answers(network, images), rtol=0, atol=1e-5)
    assert "44 biases of convolutions taken into the running means" in teacher.summary


def test_a_bias_without_its_norm_is_not_taken_anywhere(tmp_path):
    network = RegNet(REGNETX["regnetx_200mf"], 6)
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    tensors["s9_b1.conv0._conv.bias"] = np.zeros(4, np.float32)
    write_weights(tmp_path / "odd.pdparams", tensors)
    with pytest.raises(WeightsError, match=r"unexpected: s9_b1\.conv0\._conv\.bias"):
        create_teacher("regnetx_200mf", tmp_path / "odd.pdparams", num_classes=6)


@pytest.mark.parametrize(
    "name", ["resnet18", "googlenet", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_25", "LeNet"]
)
def test_models_of_paddle_vision(name, tmp_path):
    paddle.seed(1)
    network = getattr(vision, name)(num_classes=7)
    disturb_statistics(network)
    paddle.save(network.state_dict(), str(tmp_path / "teacher.pdparams"))
    teacher = create_teacher(name, tmp_path / "teacher.pdparams", num_classes=7)
    images = paddle.randn([2, 1, 28, 28] if name == "LeNet" else [2, 3, 224, 224])
    np.testing.assert_array_equal(teacher(images).numpy(), answers(network, images))


def test_every_function_of_paddle_vision_models_is_a_name():
    theirs = {name for name in vision.__all__ if not isinstance(getattr(vision, name), type)}
    assert len(theirs) > 30
    assert theirs | {"lenet", "regnetx_4gf", "cyclemlp_b5"} <= set(list_teachers())


def test_a_cyclemlp_by_name_from_a_bare_file(tmp_path):
    paddle.seed(2)
    network = cyclemlp.create_model("cyclemlp_nano", num_classes=5)
    paddle.save(network.state_dict(), str(tmp_path / "bare.pdparams"))
    teacher = create_teacher("CycleMLP_nano", tmp_path / "bare.pdparams", num_classes=5)
    images = paddle.randn([2, 3, 32, 32])
    np.testing.assert_array_equal(teacher(images).numpy(), answers(network, images))


def test_a_run_of_ours_knows_its_model(tmp_path):
    network = small_cyclemlp(in_chans=1)
    network.metadata.preprocessing = GREY
    run = tmp_path / "run"
    run.mkdir()
    cyclemlp.save_model(network, run / "best.safetensors")
    images = paddle.randn([2, 1, 32, 32])
    for name, weights in (
        (str(run), None),
        (str(run / "best.safetensors"), None),
        ("cyclemlp_nano", run),
        ("cyclemlp_nano", str(run / "best.safetensors")),
    ):
        teacher = create_teacher(name, weights, num_classes=5)
        assert teacher.name == "cyclemlp_nano"
        assert teacher.preprocessing == GREY
        np.testing.assert_array_equal(teacher(images).numpy(), answers(network, images))


def test_the_authors_weights_are_fetched_when_asked_for(tmp_path, monkeypatch):
    """From the cache, where the file may lie already; here it is one with the released file's names."""
    paddle.seed(4)
    network = cyclemlp.create_model("cyclemlp_b1", num_classes=3)
    monkeypatch.setenv("CYCLEMLP_HOME", str(tmp_path))
    paddle.save(network.state_dict(), str(tmp_path / "CycleMLP_B1.pth"))
    teacher = create_teacher("CycleMLP_B1", "published", num_classes=3)
    images = paddle.randn([1, 3, 64, 64])
    np.testing.assert_array_equal(teacher(images).numpy(), answers(network, images))


# ---- frozen, and normalised for itself


def test_a_teacher_is_frozen_and_no_layer(tmp_path):
    network = RegNet(REGNETX["regnetx_200mf"], 5)
    network.train()
    teacher = Teacher("regnetx_200mf", network, Preprocessing(), num_classes=5)
    assert not isinstance(teacher, nn.Layer)
    assert not any(layer.training for layer in network.sublayers(include_self=True))
    assert all(parameter.stop_gradient for parameter in network.parameters())
    images = paddle.randn([2, 3, 64, 64])
    images.stop_gradient = False
    assert teacher(images).stop_gradient


class Means(nn.Layer):
    """Answers with the mean of each channel, so that tests see what arrives."""

    def forward(self, images):
        return images.mean(axis=[2, 3])


def test_images_are_renormalised():
    student = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.125))
    teacher = Teacher("means", Means(), Preprocessing(), num_classes=3, images=student)
    images = np.broadcast_to(np.array([0.5, 1.0, -2.0], np.float32).reshape(1, 3, 1, 1), (2, 3, 4, 4))
    # Pixels: 0.5 · 0.5 + 0.5 = 0.75, 1 · 0.25 + 0.4 = 0.65, −2 · 0.125 + 0.3 = 0.05. By ImageNet's mean and deviation:
    # (0.75 − 0.485) / 0.229, (0.65 − 0.456) / 0.224, (0.05 − 0.406) / 0.225
    by_hand = [[1.1572052, 0.8660714, -1.5822222]] * 2
    np.testing.assert_allclose(teacher(paddle.to_tensor(images)).numpy(), by_hand, rtol=1e-6)


def test_greyscale_becomes_three_equal_channels():
    teacher = Teacher("means", Means(), Preprocessing(), num_classes=3, images=GREY)
    # A pixel of 1 · 0.25 + 0.5 = 0.75 in each channel: (0.75 − 0.485) / 0.229, (… − 0.456) / 0.224, (… − 0.406) / 0.225
    by_hand = [[1.1572052, 1.3125000, 1.5288889]]
    np.testing.assert_allclose(teacher(paddle.ones([1, 1, 4, 4])).numpy(), by_hand, rtol=1e-6)
    assert teacher(paddle.ones([1, 1, 4, 4], dtype="float16")).dtype == paddle.float32


def test_images_that_are_right_already_are_not_touched():
    seen = []
    network = Means()
    network.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    other_size = replace(Preprocessing(), input_size=192)
    teacher = Teacher("means", network, Preprocessing(), num_classes=3, images=other_size)
    images = paddle.randn([1, 3, 4, 4])
    teacher(images)
    assert seen[0] is images


def test_what_is_said_of_a_teacher(tmp_path):
    network = small_cyclemlp()
    network.metadata.classes = list("abcde")
    cyclemlp.save_model(network, tmp_path / "m.safetensors")
    student = replace(Preprocessing(), input_size=48, mean=(0.5,) * 3)
    path = str(tmp_path / "m.safetensors")
    summary = create_teacher(path, num_classes=5, images=student, classes=list("vwxyz")).summary
    assert f"tensors loaded from {path}" in summary
    assert "made for 32×32 pixels, gets 48×48" in summary
    assert "renormalised to its mean (0.485, 0.456, 0.406)" in summary
    assert "class names are not the student's (a, b, c …)" in summary
    same = create_teacher(path, num_classes=5, images=network.metadata.preprocessing, classes=list("abcde"))
    assert "\n" not in same.summary


# ---- refused


@pytest.mark.parametrize(
    ("name", "where"),
    [
        (
            "RegNetX_4GF",
            "PaddleClas publishes RegNetX_4GF_pretrained.pdparams at https://paddle-imagenet-models-name.bj.bcebos.com/",
        ),
        ("regnetx_1600mf", "RegNetX_1600MF_pretrained.pdparams"),
        ("resnet50", "paddle.vision.models.resnet50(pretrained=True)"),
        ("cyclemlp_b2", 'give "published", a weight file'),
        ("cyclemlp_micro", "give a weight file, or the folder of a `cyclemlp train` run"),
        ("lenet", "give a weight file"),
    ],
)
def test_there_is_no_random_teacher(name, where, tmp_path):
    with pytest.raises(WeightsError) as raised:
        create_teacher(name, num_classes=10)
    assert where in str(raised.value)
    assert f"the teacher {name.lower()} has no weights" in str(raised.value)
    with pytest.raises(WeightsError) as raised:
        create_teacher(name, tmp_path / "gone.pdparams", num_classes=10)
    assert where in str(raised.value)
    assert str(tmp_path / "gone.pdparams") in str(raised.value)


def test_unknown_names():
    with pytest.raises(
        ModelError, match=r"unknown teacher 'RegNetX_5GF' \(did you mean regnetx_.*no such run or"
    ):
        create_teacher("RegNetX_5GF", num_classes=10)


def test_a_file_that_does_not_know_its_model_needs_a_name(tmp_path):
    paddle.save(small_cyclemlp().state_dict(), str(tmp_path / "bare.pdparams"))
    with pytest.raises(WeightsError, match="does not name its model; give the model's name"):
        create_teacher(str(tmp_path / "bare.pdparams"), num_classes=5)


def test_a_file_and_weights_are_one_too_many(tmp_path):
    cyclemlp.save_model(small_cyclemlp(), tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match="one too many"):
        create_teacher(str(tmp_path / "m.safetensors"), tmp_path / "m.safetensors", num_classes=5)


def test_a_file_of_another_model_is_named(tmp_path):
    cyclemlp.save_model(small_cyclemlp(), tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match="holds a cyclemlp_nano, and the teacher asked for is regnetx_4gf"):
        create_teacher("RegNetX_4GF", tmp_path / "m.safetensors", num_classes=5)


def test_another_number_of_classes(tmp_path):
    message = r"knows 5 classes and the student has 10"
    paddle.save(RegNet(REGNETX["regnetx_200mf"], 5).state_dict(), str(tmp_path / "regnet.pdparams"))
    with pytest.raises(WeightsError, match=message):
        create_teacher("RegNetX_200MF", tmp_path / "regnet.pdparams", num_classes=10)
    paddle.save(vision.googlenet(num_classes=5).state_dict(), str(tmp_path / "vision.pdparams"))
    with pytest.raises(WeightsError, match=message):
        create_teacher("googlenet", tmp_path / "vision.pdparams", num_classes=10)
    bare = cyclemlp.create_model("cyclemlp_nano", num_classes=5)
    paddle.save(bare.state_dict(), str(tmp_path / "bare.pdparams"))
    with pytest.raises(WeightsError, match=message):
        create_teacher("cyclemlp_nano", tmp_path / "bare.pdparams", num_classes=10)
    cyclemlp.save_model(small_cyclemlp(), tmp_path / "ours.safetensors")
    with pytest.raises(WeightsError, match=message):
        create_teacher(str(tmp_path / "ours.safetensors"), num_classes=10)


def test_every_tensor_must_fit(tmp_path):
    tensors = {name: t.numpy() for name, t in RegNet(REGNETX["regnetx_200mf"], 5).state_dict().items()}
    for name, change in (
        ("conv._batch_norm._mean", None),
        ("out.weight", tensors["out.weight"][:-1]),
        ("s1_b1.conv0._conv.weight", tensors["s1_b1.conv0._conv.weight"][:, :16]),
    ):
        changed = {**tensors, name: change}
        if change is None:
            del changed[name]
        write_weights(tmp_path / "t.safetensors", changed)
        with pytest.raises(WeightsError, match=f"1 tensor differs; nothing was loaded.*\n.*{name}"):
            create_teacher("regnetx_200mf", tmp_path / "t.safetensors", num_classes=5)


def test_a_headless_model_is_no_teacher(tmp_path):
    for overrides in ({"num_classes": 0}, {"features_only": True}):
        cyclemlp.save_model(small_cyclemlp(**overrides), tmp_path / "m.safetensors")
        with pytest.raises(WeightsError, match="without a head"):
            create_teacher(str(tmp_path / "m.safetensors"), num_classes=5)


def test_metadata_that_contradict_the_tensors_leave_no_random_head(tmp_path):
    """A file that says 10 classes and has a head of 5 must not become a teacher with a head of its own."""
    network = small_cyclemlp()
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    metadata = {
        "format": 1,
        "model": "cyclemlp_nano",
        "overrides": {"num_classes": 10, "depths": [1, 1, 1, 1]},
    }
    write_weights(tmp_path / "m.safetensors", tensors, metadata=metadata)
    with pytest.raises(WeightsError, match=r"mis-shaped: head\.weight"):
        create_teacher(str(tmp_path / "m.safetensors"), num_classes=10)


def test_the_same_classes_in_another_order(tmp_path):
    network = small_cyclemlp()
    network.metadata.classes = ["ant", "bee", "cat", "dog", "eel"]
    cyclemlp.save_model(network, tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match="in another order: its class 1 is 'bee', the student's 'cat'"):
        create_teacher(
            str(tmp_path / "m.safetensors"), num_classes=5, classes=["ant", "cat", "bee", "dog", "eel"]
        )


def test_colour_is_not_made_grey():
    with pytest.raises(ModelError, match="images of 3 channels and the teacher lenet of 1"):
        Teacher("lenet", nn.Identity(), GREY, num_classes=10, images=Preprocessing())


def test_a_network_that_gives_no_logits():
    teacher = Teacher("identity", nn.Identity(), Preprocessing(), num_classes=10)
    with pytest.raises(ModelError, match=r"gives \[2, 3, 8, 8\] for 2 images; expected \[2, 10\]"):
        teacher(paddle.zeros([2, 3, 8, 8]))
