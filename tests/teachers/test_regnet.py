"""RegNetX has PaddleClas's state-dict keys and gives its outputs (tests/fixtures/regnet/make.py)."""

from pathlib import Path

import numpy as np
import paddle
import pytest
from golden import fill_batch_norm_network, image

from cyclemlp.teachers.regnet import REGNETX, RegNet

PADDLECLAS = np.load(Path(__file__).parents[1] / "fixtures" / "regnet" / "regnetx.npz")


@pytest.mark.parametrize("key", [k for k in PADDLECLAS if not k.startswith("keys_")])
def test_outputs(key):
    name, shape, _ = key.rsplit("_", 2)
    model = RegNet(REGNETX[name.lower()])
    fill_batch_norm_network(model, salt=0)
    model.eval()
    with paddle.no_grad():
        logits = model(paddle.to_tensor(image(7, tuple(map(int, shape.split("x")))))).numpy()
    np.testing.assert_allclose(logits, PADDLECLAS[key], rtol=0, atol=1e-5)


@pytest.mark.parametrize("key", [k for k in PADDLECLAS if k.startswith("keys_")])
def test_keys_and_shapes(key):
    with paddle.LazyGuard():
        model = RegNet(REGNETX[key.removeprefix("keys_").lower()])
    assert [f"{k} {list(v.shape)}" for k, v in model.state_dict().items()] == PADDLECLAS[key].tolist()


def test_parameters_of_the_default_teacher():
    model = RegNet(REGNETX["regnetx_4gf"])
    assert sum(p.size for p in model.parameters() if p.trainable) == 22_118_248
    assert sum(p.size for p in model.state_dict().values()) == 22_194_312
