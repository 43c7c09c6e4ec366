"""A tiny classifier with class maps, exported once."""

from __future__ import annotations

import pytest

CLASSES = ["cat", "dog, small", "<b>emu</b>"]


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    import paddle

    import cyclemlp
    from cyclemlp.deploy import export_model

    paddle.seed(0)
    model = cyclemlp.create_model("cyclemlp_nano", num_classes=len(CLASSES))
    model.head.weight.set_value(8 * model.head.weight)  # so that images differ in their classes
    model.metadata.classes = CLASSES
    folder = tmp_path_factory.mktemp("serve") / "nano"
    export_model(model, folder, with_maps=True)
    return folder
