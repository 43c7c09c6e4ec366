"""Grad-CAM against its formula, its definition by gradients, and the logit that it must add up to."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

import cyclemlp
from cyclemlp.errors import ModelError
from cyclemlp.explain import grad_cam


@pytest.fixture(scope="module")
def model():
    """In float64, so that a difference quotient says something."""
    paddle.set_default_dtype("float64")
    try:
        paddle.seed(1)
        model = cyclemlp.create_model(
            "cyclemlp_nano", in_chans=1, embed_dims=(8, 8, 12, 12), depths=(1, 1, 2, 1), num_classes=3
        )
        for parameter in model.parameters():  # larger than at the start, so that images differ
            parameter.set_value(parameter + paddle.randn(parameter.shape) * 0.2)
    finally:
        paddle.set_default_dtype("float32")
    model.eval()
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, 1, 48, 64))


def test_the_last_stage_is_exact(model, images):
    cam = grad_cam(model, images, [2, 0])
    features = model.forward_features(paddle.to_tensor(images)).numpy()
    weight = model.head.weight.numpy()  # [C, K]
    for i, index in enumerate((2, 0)):
        np.testing.assert_allclose(
            cam.maps[4][i], np.tensordot(weight[:, index], features[i], axes=1), rtol=1e-5, atol=1e-6
        )
    logits = model(paddle.to_tensor(images)).numpy()
    np.testing.assert_allclose(cam.logits, logits, rtol=1e-5)
    of_class = cam.maps[4].mean(axis=(1, 2)) + model.head.bias.numpy()[[2, 0]]
    np.testing.assert_allclose(of_class, logits[[0, 1], [2, 0]], rtol=1e-5)
    assert cam.maps[4].shape == (2, 3, 4)


def test_the_last_stage_is_that_of_gradients(model, images):
    """As Grad-CAM is defined, of the normalised map, times the number of positions."""
    features = model.forward_features(paddle.to_tensor(images))
    features.stop_gradient = False
    (gradient,) = paddle.grad(model.forward_head(features)[:, 1].sum(), features)
    by_gradient = (gradient.mean(axis=[2, 3], keepdim=True) * features).sum(axis=1).numpy() * 12
    np.testing.assert_allclose(grad_cam(model, images, [1, 1]).maps[4], by_gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_lower_stages_against_difference_quotients(model, images, stage):
    """A channel's weight is how the logit grows when the channel grows everywhere."""
    layer, seen = model.network[2 * (stage - 1)], {}

    def logit(change):
        def hook(_, __, out):
            seen["map"] = out
            return out + paddle.to_tensor(change)

        with paddle.no_grad():
            handle = layer.register_forward_post_hook(hook)
            value = model(paddle.to_tensor(images))[:, 1].numpy()
            handle.remove()
        return value

    channels = model.config.embed_dims[stage - 1]
    steps = 1e-5 * np.eye(channels)
    weights = np.stack([(logit(step) - logit(-step)) / 2e-5 for step in steps], axis=1)  # [B, C]
    expected = np.einsum("bc,bhwc->bhw", weights, seen["map"].numpy())
    found = grad_cam(model, images, [1, 1], [stage])
    np.testing.assert_allclose(found.maps[stage], expected, rtol=1e-4, atol=1e-6 * abs(expected).max())


def test_the_most_probable_class_and_its_probability(model, images):
    cam = grad_cam(model, images, stages=[2, 4])
    assert cam.classes.tolist() == cam.logits.argmax(axis=1).tolist()
    assert sorted(cam.maps) == [2, 4]
    softmax = np.exp(cam.logits) / np.exp(cam.logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(cam.probabilities(), softmax.max(axis=1), rtol=1e-5)


def test_of_several_labels_an_image_the_probability_is_that_of_the_class_by_itself(
    model, images, monkeypatch
):
    monkeypatch.setattr(model.metadata, "task", "multi-label classification")
    cam = grad_cam(model, images)
    np.testing.assert_allclose(cam.probabilities(), 1 / (1 + np.exp(-cam.logits.max(axis=1))), rtol=1e-5)


def test_heat():
    from cyclemlp.explain import GradCam

    maps = np.array([[[2.0, -3.0], [1.0, 0.0]], [[-1.0, -2.0], [-3.0, -4.0]]], dtype="float32")
    cam = GradCam(np.array([0, 0]), np.zeros((2, 2), "float32"), {4: maps})
    assert cam.heat(4).tolist() == [[[1, 0], [0.5, 0]], [[0, 0], [0, 0]]]


def test_errors(model, images):
    with pytest.raises(ModelError, match=r"classes \[3, 0\] for 2 images; give one an image, from 0 to 2"):
        grad_cam(model, images, [3, 0])
    with pytest.raises(ModelError, match="one an image"):
        grad_cam(model, images, [0])
    with pytest.raises(ModelError, match="no classification head"):
        grad_cam(cyclemlp.create_model("cyclemlp_nano", num_classes=0), images)
    with pytest.raises(ModelError, match="no classification head"):
        grad_cam(cyclemlp.create_model("cyclemlp_nano", features_only=True), images)
    with pytest.raises(FloatingPointError, match="NaN"):
        grad_cam(model, images * np.nan)
