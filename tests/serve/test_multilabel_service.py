"""The service of a model of several labels an image."""

from __future__ import annotations

import io
import json

import numpy as np
import paddle
import pytest
from PIL import Image
from service import running

import cyclemlp
from cyclemlp.deploy import export_model
from cyclemlp.metadata import MULTI_LABEL
from cyclemlp.predictor import Predictor

THRESHOLDS = [0.2, 0.5, 0.9]


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """A tiny exported model whose images differ in their labels."""
    paddle.seed(0)
    model = cyclemlp.create_model("cyclemlp_nano", num_classes=3)
    model.head.weight.set_value(8 * model.head.weight)
    model.metadata.classes = ["cat", "dog", "emu"]
    model.metadata.task, model.metadata.thresholds = MULTI_LABEL, THRESHOLDS
    folder = tmp_path_factory.mktemp("serve") / "labels"
    export_model(model, folder, with_maps=True)
    return folder


def picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return pixels, content.getvalue()


def test_the_service_gives_the_labels_of_the_predictor(labels):
    with running(labels) as service:
        facts = json.loads(service.request("GET", "/model")[2])
        assert (facts["task"], facts["thresholds"]) == (MULTI_LABEL, THRESHOLDS)
        for query, options in (
            ("", {}),
            ("?threshold=0", {"threshold": 0.0}),
            ("?threshold=1", {"threshold": 1.0}),
        ):
            predictor = Predictor(labels, **options)
            for seed in range(4):
                pixels, content = picture(seed)
                status, answer = service.predict(content, query)
                assert status == 200
                expected = [(one.name, one.probability) for one in predictor(pixels).classes]
                found = [(one["name"], one["probability"]) for one in answer["classes"]]
                assert [name for name, _ in found] == [name for name, _ in expected]
                assert [p for _, p in found] == pytest.approx([p for _, p in expected], abs=1e-5)
        status, answer = service.predict(picture(0)[1], "?threshold=0&top=1&maps=true")
        assert (status, len(answer["classes"])) == (200, 1)
        assert np.array(answer["classes"][0]["map"]).ndim == 2
        assert service.predict(picture(0)[1], "?threshold=2")[0] == 422


def test_a_threshold_is_refused_by_a_model_of_one_class_an_image(exported):
    with running(exported) as service:
        status, answer = service.predict(picture(0)[1], "?threshold=0.5")
        assert status == 422
        assert "for models of several labels an image" in answer["error"]
