"""One step: in parts it is the whole batch's, frozen stages stay, a teacher and mixing are part of it."""

from __future__ import annotations

import contextlib
import importlib

import numpy as np
import paddle
import pytest
from tiny_run import PLAIN, Some, tiny_recipe, tiny_train

import cyclemlp
from cyclemlp import create_model
from cyclemlp.data import step_generator
from cyclemlp.evaluation import as_callable, evaluate
from cyclemlp.teachers import Teacher
from cyclemlp.training.amp import MixedPrecision
from cyclemlp.training.losses import SoftTargetCrossEntropy
from cyclemlp.training.model import freeze_stages, training_mode
from cyclemlp.training.optimizer import OptimizerConfig, build_optimizer, layer_ratios
from cyclemlp.training.step import Stepper

TINY = {"in_chans": 1, "embed_dims": (8, 8, 12, 12), "depths": (1, 1, 2, 1), "num_classes": 10}
DTYPES = {"float32": 2e-6, "float64": 1e-13}


@pytest.fixture
def dtype(request):
    before = paddle.get_default_dtype()
    paddle.set_default_dtype(request.param)
    yield request.param
    paddle.set_default_dtype(before)


def taught(tmp_path):
    """Weights of a teacher: a run's folder."""
    return str(tiny_train(tmp_path / "teacher", tiny_recipe(run__epochs=1)).output)


def gradients(recipe, dtype="float32", seed=5, size=10):
    """Loss and gradients of one mixed batch."""
    paddle.seed(seed)
    model = create_model("cyclemlp_nano", **TINY)
    model.metadata.classes = [str(i) for i in range(10)]
    stepper = Stepper.from_recipe(recipe, model, lr=1e-3, say=lambda text: None)
    stepper.train()
    rng = np.random.default_rng(seed)
    images = paddle.to_tensor(rng.standard_normal((size, 1, 16, 16)), dtype=dtype)
    labels = paddle.to_tensor(rng.integers(0, 10, size))
    images, targets = stepper.mixup(images, labels, step_generator(0, 0, 0))
    loss = float(stepper.backward(images, targets))
    return loss, {n: p.grad.numpy() for n, p in model.named_parameters()}


@pytest.mark.parametrize("dtype", DTYPES, indirect=True)
@pytest.mark.parametrize("parts", [2, pytest.param(3, marks=pytest.mark.heavy), 10, 64])
@pytest.mark.parametrize("mixing", ["batch", "elem", None])
def test_in_parts_it_is_the_whole_batch(dtype, parts, mixing):
    # Three parts of ten images have 3, 3 and 4: each counts by its share. Mixing is done before.
    more = {"augment__mixup_mode": mixing} if mixing else {"augment__mixup": 0, "augment__cutmix": 0}
    recipe = tiny_recipe(optimizer__accumulate=1, **more)
    loss, whole = gradients(recipe, dtype)
    in_parts, summed = gradients(recipe.updated({"optimizer.accumulate": parts}), dtype)
    assert in_parts == pytest.approx(loss, rel=DTYPES[dtype])
    for name in whole:
        np.testing.assert_allclose(summed[name], whole[name], rtol=0, atol=DTYPES[dtype], err_msg=name)


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_in_parts_it_is_the_whole_batch_with_a_teacher_too(tmp_path, kind):
    teacher = {"distillation__kind": kind, "distillation__teacher": taught(tmp_path)}
    recipe = tiny_recipe(optimizer__accumulate=1, **teacher)
    loss, whole = gradients(recipe)
    alone, _ = gradients(tiny_recipe(optimizer__accumulate=1))
    assert abs(loss - alone) > 1e-3  # the teacher has its say
    in_parts, summed = gradients(recipe.updated({"optimizer.accumulate": 3}))
    assert in_parts == pytest.approx(loss, rel=2e-6)
    for name in whole:
        np.testing.assert_allclose(summed[name], whole[name], rtol=0, atol=2e-6, err_msg=name)


def test_the_teacher_answers_in_the_students_precision_and_the_loss_is_outside(tmp_path, monkeypatch):
    inside, seen = [False], []

    @contextlib.contextmanager
    def autocast(precision):
        inside[0] = True
        yield
        inside[0] = False

    plain = Teacher.__call__
    monkeypatch.setattr(MixedPrecision, "autocast", autocast)
    monkeypatch.setattr(Teacher, "__call__", lambda *args: seen.append(inside[0]) or plain(*args))
    whole = SoftTargetCrossEntropy.forward
    monkeypatch.setattr(
        SoftTargetCrossEntropy, "forward", lambda *args: seen.append(not inside[0]) or whole(*args)
    )
    gradients(tiny_recipe(distillation__kind="soft", distillation__teacher=taught(tmp_path)))
    assert len(seen) >= 4
    assert all(seen)


def test_a_whole_run_in_parts_is_that_of_the_whole_batch(tmp_path):
    plain = {**PLAIN, "model__overrides": {**PLAIN["model__overrides"], "drop_rate": 0.0}}
    models = []
    for parts in (1, 4):
        recipe = tiny_recipe(
            optimizer__accumulate=parts,
            augment__mixup=0.8,
            run__epochs=1,
            **{k: v for k, v in plain.items() if k != "augment__mixup"},
        )
        result = tiny_train(tmp_path / str(parts), recipe)
        models.append(cyclemlp.load_model(result.output / "checkpoints/checkpoint_0001").state_dict())
    for name, tensor in models[0].items():
        # Adam turns a rounding of the smallest gradients into a part of a step of 5e-3.
        np.testing.assert_allclose(models[1][name].numpy(), tensor.numpy(), atol=5e-4, err_msg=name)


def test_mixing_changes_the_images_and_the_labels(tmp_path, monkeypatch):
    # What one existing program got wrong: it mixed the labels and threw the mixed images away.
    seen = []
    plain = Stepper.backward

    def backward(stepper, images, targets):
        seen.append((images.numpy(), targets.numpy()))
        return plain(stepper, images, targets)

    monkeypatch.setattr(Stepper, "backward", backward)
    still = {k: v for k, v in PLAIN.items() if k != "augment__mixup"}
    for alpha in (0.0, 0.8):
        recipe = tiny_recipe(augment__mixup=alpha, loss__label_smoothing=0, run__epochs=1, **still)
        tiny_train(tmp_path / str(alpha), recipe, train_source=Some("train", 8))
    (clean, hard), (mixed, soft) = seen
    lam = next(
        s[h.argmax()]
        for s, h, other in zip(soft, hard, hard[::-1], strict=True)
        if h.argmax() != other.argmax()
    )
    np.testing.assert_allclose(soft, lam * hard + (1 - lam) * hard[::-1], atol=1e-6)
    np.testing.assert_allclose(mixed, lam * clean + (1 - lam) * clean[::-1], atol=1e-5)
    assert 0 < lam < 1


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_frozen_stages_do_not_move_not_even_by_decay(count, tmp_path):
    recipe = tiny_recipe(model__freeze_stages=count, optimizer__weight_decay=0.5, run__epochs=1)
    paddle.seed(0)
    start = tmp_path / "start.safetensors"
    overrides = {**recipe.model.overrides, "num_classes": 10}
    cyclemlp.save_model(create_model("cyclemlp_nano", **overrides), start)
    recipe = recipe.updated({"model.weights": str(start)})
    before = cyclemlp.load_model(start).state_dict()
    after = cyclemlp.load_model(
        tiny_train(tmp_path / "run", recipe).output / "checkpoints/checkpoint_0001"
    ).state_dict()
    frozen = () if not count else ("patch_embed.", *(f"network.{i}." for i in range(2 * count - 1)))
    assert {4: 8, 2: 4, 1: 2, 0: 0}[count] == len(frozen)
    for name in before:
        same = np.array_equal(before[name].numpy(), after[name].numpy())
        # A bias that starts at 0 and softmax does not see (the gate's) may stay; weights of matrices move.
        assert same if name.startswith(frozen) else (not same or before[name].ndim == 1), name


def test_frozen_stages_are_computed_as_in_evaluation():
    model = create_model("cyclemlp_nano", **TINY, drop_rate=0.5)
    frozen = freeze_stages(model, 2)
    training_mode(model, frozen)
    assert not model.network[0][0].attn.proj_drop.training
    assert model.network[4][0].attn.proj_drop.training
    image = paddle.ones([1, 1, 16, 16])
    first = [model.network[0](model.patch_embed(image)).numpy() for _ in range(2)]
    np.testing.assert_array_equal(*first)


def test_a_blocks_rate_falls_with_its_distance_from_the_head():
    model = create_model("cyclemlp_nano", **TINY)  # 5 blocks
    ratios = layer_ratios(model, 0.5)
    expected = {
        "patch_embed.proj.weight": 6,
        "network.0.0.norm1.weight": 5,
        "network.1.proj.weight": 4,  # leads to the second stage's first block
        "network.2.0.attn.proj.bias": 4,
        "network.4.0.mlp.fc1.weight": 3,
        "network.4.1.mlp.fc1.weight": 2,
        "network.6.0.mlp.fc1.weight": 1,
        "norm.weight": 0,
        "head.weight": 0,
    }
    assert {name: ratios[name] for name in expected} == {n: 0.5**d for n, d in expected.items()}
    assert ratios.keys() == dict(model.named_parameters()).keys()


def test_the_rates_are_what_adamw_uses_for_step_and_decay():
    model = create_model("cyclemlp_nano", **TINY)
    before = {n: p.numpy().copy() for n, p in model.named_parameters()}
    optimizer = build_optimizer(model, OptimizerConfig(layer_decay=0.5, weight_decay=0.2, eps=1e-12), lr=0.1)
    for parameter in model.parameters():
        parameter.grad = paddle.ones_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        lr = 0.1 * layer_ratios(model, 0.5)[name]
        decay = 0.2 if parameter.ndim > 1 else 0.0
        expected = before[name] * (1 - lr * decay) - lr  # the first step's size is lr
        np.testing.assert_allclose(parameter.numpy(), expected, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("frozen", [pytest.param(0, marks=pytest.mark.heavy), 1])
def test_recomputing_activations_changes_no_bit(tmp_path, frozen, monkeypatch):
    outputs, told = [], []
    module = importlib.import_module("paddle.distributed.fleet.recompute.recompute")
    monkeypatch.setattr(module.logger, "warning", told.append)
    for recompute in (False, True):
        recipe = tiny_recipe(run__epochs=1, model__freeze_stages=frozen)
        recipe.model.overrides["recompute"] = recompute
        outputs.append(tiny_train(tmp_path / str(recompute), recipe).output / "checkpoints/checkpoint_0001")
    a, b = (cyclemlp.load_model(output).state_dict() for output in outputs)
    for name in a:
        np.testing.assert_array_equal(a[name].numpy(), b[name].numpy(), err_msg=name)
    assert told == []  # Paddle warns at each step where there is nothing to recompute


@pytest.mark.heavy
def test_fine_tuning_at_another_size_for_other_classes(tmp_path):
    run = tiny_train(tmp_path / "run", tiny_recipe(run__epochs=1)).output
    three = {part: Some(part, 24) for part in ("train", "val")}
    for source in three.values():
        source.classes, source.num_classes = [*"0123456789", "ten", "eleven"], 12
    recipe = tiny_recipe(
        model__weights=str(run / "best.safetensors"),
        data__preprocessing={"input_size": 24},
        optimizer__layer_decay=0.7,
        model__freeze_stages=1,
        run__epochs=1,
    )
    said: list[str] = []
    result = tiny_train(
        tmp_path / "tuned", recipe, train_source=three["train"], val_source=three["val"], say=said.append
    )
    tuned = cyclemlp.load_model(result.output)
    assert tuned.config.num_classes == 12
    assert tuned.metadata.preprocessing.input_size == 24
    assert tuned.metadata.preprocessing.crop_pct == 1.0  # kept from the run
    assert "head.weight" in "".join(said)
    start = cyclemlp.load_model(run / "best.safetensors").state_dict()
    np.testing.assert_array_equal(
        tuned.state_dict()["network.0.0.norm1.weight"].numpy(), start["network.0.0.norm1.weight"].numpy()
    )
    assert evaluate(as_callable(tuned), _batches(tuned, three["val"]), progress=False).images == 24


def _batches(model, source):
    from cyclemlp.data import build_loader, evaluation_transform

    return build_loader(source, evaluation_transform(model.metadata.preprocessing), batch_size=8)
