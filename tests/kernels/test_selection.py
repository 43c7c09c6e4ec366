"""Which implementation runs: equal to the plain one, put in place and taken back without a trace."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest

import cyclemlp
from cyclemlp.errors import ConfigError
from cyclemlp.kernels import chosen_kernels, select_kernels
from cyclemlp.kernels.cpu import CPU_LAYERS
from cyclemlp.network import VARIANTS, CycleMLP

FUSED = set(CPU_LAYERS.values())


def make(name: str, **overrides: object) -> CycleMLP:
    """A float64 network with weights that are far from those of its start, so that every part tells."""
    paddle.seed(3)
    model = cyclemlp.create_model(name, num_classes=5, **overrides)
    model.to(dtype="float64")
    for parameter in model.parameters():
        parameter.set_value(parameter + 0.1 * paddle.randn(parameter.shape, "float64"))
    return model


def outcome(model: CycleMLP) -> list[np.ndarray]:
    """Logits or maps, then the gradients of all parameters and of the image."""
    height, width = (model.config.min_size * factor + extra for factor, extra in ((1, 3), (2, 1)))
    x = np.random.default_rng(0).standard_normal((2, 3, height, width))
    image = paddle.to_tensor(x, stop_gradient=False)
    outputs = model(image)
    outputs = list(outputs) if isinstance(outputs, list) else [outputs]
    model.clear_gradients()
    paddle.add_n([(y * paddle.cos(y.detach())).sum() for y in outputs]).backward()
    with paddle.no_grad():
        again = model(image)
    again = again if isinstance(again, list) else [again]
    gradients = [parameter.grad.numpy() for parameter in model.parameters()]
    return [*(y.numpy() for y in (*outputs, *again)), image.grad.numpy(), *gradients]


CASES = [(name, {} if name == "cyclemlp_nano" else {"depths": (1, 1, 1, 1)}) for name in VARIANTS]
FORMS = [
    ("cyclemlp_nano", {"features_only": True}),
    ("cyclemlp_nano", {"gate": False, "downsample": "merge", "patch_norm": True}),
    ("cyclemlp_nano", {"branches": ("w", "c"), "step_size": [[3, 3], [1, 5]]}),
]


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        pytest.param(name, overrides, marks=() if name == "cyclemlp_nano" else pytest.mark.heavy)
        for name, overrides in CASES + FORMS
    ],
)
def test_every_variant_is_the_plain_one(name, overrides):
    model = make(name, drop_path_rate=0.0, **overrides)
    assert {type(layer) for layer in model.sublayers()} & FUSED
    chosen = outcome(model)
    select_kernels(model, "plain")
    assert not {type(layer) for layer in model.sublayers()} & FUSED
    plain = outcome(model)
    assert len(chosen) == len(plain) > 20
    for mine, theirs in zip(chosen, plain, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-11 * max(np.abs(theirs).max(), 1))


def test_a_layer_stays_the_same_object_and_is_given_back_as_it_was():
    model = make("cyclemlp_nano")
    select_kernels(model, "plain")
    layers, state = dict(model.named_sublayers()), model.state_dict()
    buffers = [name for name, _ in model.named_buffers()]
    heard = []
    model.network[0][0].attn.proj.register_forward_post_hook(lambda *_: heard.append(1))
    model.network[0].eval()
    for kernels in ("auto", "auto", "plain"):
        select_kernels(model, kernels)
        assert {n: id(layer) for n, layer in model.named_sublayers()} == {n: id(v) for n, v in layers.items()}
        assert {n: id(t) for n, t in model.state_dict().items()} == {n: id(t) for n, t in state.items()}
        assert not model.network[0][0].training
        assert model.network[2][0].training
        model(paddle.randn([1, 3, 32, 32], "float64"))
    assert len(heard) == 3
    assert [name for name, _ in model.named_buffers()] == buffers


def test_copies_and_types_follow():
    model = make("cyclemlp_nano")
    x = paddle.randn([1, 3, 40, 32], "float64")
    model.eval()
    twin = copy.deepcopy(model)
    assert np.array_equal(twin(x).numpy(), model(x).numpy())
    twin.to(dtype="float32")
    assert twin(x.astype("float32")).dtype == paddle.float32


def test_other_layers_of_a_model_are_left_alone():
    whole = paddle.nn.Sequential(paddle.nn.LayerNorm(4), make("cyclemlp_nano"))
    select_kernels(whole)
    assert type(whole[0]) is paddle.nn.LayerNorm
    assert type(whole[1].norm) is CPU_LAYERS[paddle.nn.LayerNorm]


def test_the_environment_chooses(monkeypatch):
    assert chosen_kernels() == "auto"
    monkeypatch.setenv("CYCLEMLP_KERNELS", "plain")
    assert not {type(layer) for layer in make("cyclemlp_nano").sublayers()} & FUSED
    monkeypatch.setenv("CYCLEMLP_KERNELS", "fast")
    with pytest.raises(
        ConfigError, match="the environment has CYCLEMLP_KERNELS=fast; expected auto or plain"
    ):
        make("cyclemlp_nano")
    monkeypatch.delenv("CYCLEMLP_KERNELS")
    with pytest.raises(ConfigError, match="kernels is 'all'"):
        select_kernels(make("cyclemlp_nano"), "all")


def test_one_argument_chooses():
    for kernels, fused in (("plain", False), ("auto", True)):
        model = cyclemlp.create_model("cyclemlp_nano", kernels=kernels)
        assert bool({type(layer) for layer in model.sublayers()} & FUSED) == fused


#: What keeps the kernels from running, and the words in which it is said.
TROUBLES = {
    "import sys; sys.modules['numba'] = None": "numba",
    "import numba, paddle, ctypes; ctypes.CDLL = lambda *_: object()": "PaddlePaddle comes without",
    "import paddle, cyclemlp.kernels.fused.launch as l; l.PRODUCTS = 'libother.so'": "comes without libother.so",
    "import numba; numba.cfunc = lambda *_, **__: 1 / 0": "division by zero",
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_where_the_kernels_cannot_run_the_plain_layers_do(trouble):
    program = f"""
{trouble}
import paddle, cyclemlp
from cyclemlp.kernels import describe_kernels
model = cyclemlp.create_model("cyclemlp_nano", num_classes=5)
assert model(paddle.ones([1, 3, 32, 32])).shape == [1, 5]
print(type(model.norm).__name__, describe_kernels())
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].startswith("LayerNorm plain: the fused kernels cannot run here (")
    assert TROUBLES[trouble] in done.stdout


def test_no_place_for_what_was_compiled(tmp_path):
    """Not beside the source nor in the user's folder: plain, and why is said."""
    program = """
import paddle, cyclemlp
from cyclemlp.kernels import describe_kernels
print(type(cyclemlp.create_model("cyclemlp_nano").norm).__name__, describe_kernels())
"""
    source = Path(cyclemlp.__file__).parent
    shutil.copytree(source, tmp_path / "cyclemlp", ignore=shutil.ignore_patterns("__pycache__"))
    # Files where folders should be: nobody, not even root, can write below them.
    nowhere = tmp_path / "cyclemlp" / "kernels" / "fused" / "__pycache__"
    nowhere.write_text("")
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    environment |= {"PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(nowhere)}
    done = subprocess.run(
        [sys.executable, "-B", "-W", "ignore", "-c", program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1].startswith("LayerNorm plain: the fused kernels cannot run here (")


def test_a_full_disk(tmp_path):
    """What was compiled cannot be kept, and runs."""
    program = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
import paddle, cyclemlp
model = cyclemlp.create_model("cyclemlp_nano", num_classes=5)
model(paddle.ones([1, 3, 32, 32])).sum().backward()
print(type(model.norm).__name__)
"""
    done = subprocess.run(
        [sys.executable, "-B", "-W", "ignore", "-c", program],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "FusedLayerNorm"


def test_compiled_kernels_are_kept_as_long_as_their_sources(tmp_path):
    """A second process compiles nothing, and a kernel is compiled anew when a function of another file changes."""
    program = """
import paddle
from cyclemlp.kernels.fused.mlp import mlp_by_chunks
rows, ones, wide = paddle.full([4096, 4], 2.0), paddle.ones([4]), paddle.ones([256])
rows[:, 0] = 1.0
weights = paddle.ones([4, 256]), wide, paddle.ones([256, 4]), ones
out, _ = mlp_by_chunks([rows, ones, ones, *weights], 1, 1e-6, None, False)
print(float(out.sum()))
"""
    source = Path(cyclemlp.__file__).parent
    shutil.copytree(source, tmp_path / "cyclemlp", ignore=shutil.ignore_patterns("__pycache__"))

    def run() -> tuple[str, set[Path]]:
        done = subprocess.run(
            [sys.executable, "-B", "-W", "ignore", "-c", program],
            env={**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "kept")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout, set(tmp_path.glob("kept/**/*.nbc"))

    first, kept = run()
    assert kept
    assert run() == (first, kept)
    gelu = tmp_path / "cyclemlp" / "kernels" / "fused" / "gelu.py"
    text = gelu.read_text(encoding="utf-8")
    gelu.write_text(text.replace("f(0.5) + z * over", "f(0.25) + z * over"), encoding="utf-8")
    other, _ = run()
    assert other != first
