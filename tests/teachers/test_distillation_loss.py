"""The loss that asks a teacher, against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

import cyclemlp
from cyclemlp.errors import ConfigError
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.teachers import DistillationLoss, Teacher, build_loss
from cyclemlp.teachers.distillation import DistillationConfig
from cyclemlp.teachers.regnet import REGNETX, RegNet
from cyclemlp.training.losses import SoftTargetCrossEntropy

# Two images of three classes. Softmax of the student's: (1, 2, 5) / 8 and (3, 3, 2) / 8; of the teacher's:
# (4, 3, 1) / 8 and (1, 2, 5) / 8.
STUDENT = np.log(np.array([[1, 2, 5], [3, 3, 2]], dtype=np.float64))
TEACHER = np.log(np.array([[4, 3, 1], [1, 2, 5]], dtype=np.float64))
TARGETS = [2, 0]
IMAGES = paddle.zeros([2, 1, 4, 4])

# Cross entropy: (ln 8/5 + ln 8/3) / 2 = (0.470004 + 0.980829) / 2
BASE = 0.7254164411
# First image:  4/8 ln(4/1) + 3/8 ln(3/2) + 1/8 ln(1/5) = 0.6931471806 + 0.1520494155 − 0.2011797391 = 0.6440168570
# Second image: 1/8 ln(1/3) + 2/8 ln(2/3) + 5/8 ln(5/2) = −0.1373265361 − 0.1013662770 + 0.5726817075 = 0.3339888943
# Sum over images and classes, by 2 images × 3 classes: 0.9780057513 / 6
KL = 0.1630009586
# The teacher's classes are 0 and 2, so (ln 8/1 + ln 8/2) / 2 = (2.0794415417 + 1.3862943611) / 2
HARD = 1.7328679514


def loss(kind="soft", alpha=0.5, tau=1.0, student=STUDENT, teacher=TEACHER):
    fn = DistillationLoss(
        SoftTargetCrossEntropy(), lambda images: paddle.to_tensor(teacher), kind, alpha, tau
    )
    return float(fn(IMAGES, paddle.to_tensor(student), paddle.to_tensor(TARGETS)))


def test_soft():
    assert loss("soft", 0.5) == pytest.approx(0.5 * BASE + 0.5 * KL, rel=1e-9)
    assert loss("soft", 0.5) == pytest.approx(0.4442086999, rel=1e-9)
    assert loss("soft", 1.0) == pytest.approx(KL, rel=1e-9)


def test_hard():
    assert loss("hard", 0.5) == pytest.approx(0.5 * BASE + 0.5 * HARD, rel=1e-9)
    assert loss("hard", 0.5) == pytest.approx(1.2291421963, rel=1e-9)
    assert loss("hard", 1.0) == pytest.approx(HARD, rel=1e-9)


def test_temperature():
    """At twice the logits and τ = 2 the softened answers are those above, and τ² = 4 times the divergence counts; the
    labels' loss has no temperature: softmax of the student's is (1, 4, 25) / 30 and (9, 9, 4) / 22, so it is
    (ln 30/25 + ln 22/9) / 2 = (0.1823215568 + 0.8938178760) / 2 = 0.5380697164."""
    by_hand = 0.75 * 0.5380697164 + 0.25 * 4 * KL  # = 0.5665532459
    assert loss("soft", 0.25, 2.0, 2 * STUDENT, 2 * TEACHER) == pytest.approx(by_hand, rel=1e-9)
    assert by_hand == pytest.approx(0.5665532459, rel=1e-9)


def test_hard_labels_have_no_temperature():
    assert loss("hard", 0.5, 4.0) == loss("hard", 0.5, 1.0)


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_alpha_0_is_the_base_loss(kind):
    assert loss(kind, 0.0) == pytest.approx(BASE, rel=1e-9)


def test_the_sum_is_divided_by_images_and_classes_alike():
    """Not `batchmean`, which with 1000 classes would be a thousand times this."""
    many = np.zeros((2, 1000))
    many[:, :3] = STUDENT
    asked = many.copy()
    asked[:, :3] = TEACHER
    log_s, log_t = (x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (many, asked))
    divergence = (np.exp(log_t) * (log_t - log_s)).sum()
    assert loss("soft", 1.0, student=many, teacher=asked) == pytest.approx(divergence / 2000, rel=1e-9)


def test_the_soft_term_is_not_the_seeds_which_is_always_0():
    """The seed puts its logits through softmax before log_softmax and gives kl_div log-probabilities for its target,
    which are below 0, where kl_div counts nothing."""
    student, teacher = paddle.to_tensor(STUDENT), paddle.to_tensor(TEACHER)
    twice = [F.log_softmax(F.softmax(x)) for x in (student, teacher)]
    assert float(F.kl_div(*twice, reduction="sum")) == 0
    assert loss("soft", 1.0) > 0.1
    # Softmax twice, even with the right target, is still something else.
    assert float(F.kl_div(twice[0], twice[1].exp(), reduction="sum")) / 6 < 0.2 * KL


def test_a_student_that_answers_as_the_teacher_pays_nothing_and_learns_nothing():
    logits = paddle.to_tensor(TEACHER + 7, stop_gradient=False)  # a softmax forgets what all logits share
    fn = DistillationLoss(SoftTargetCrossEntropy(), lambda images: paddle.to_tensor(TEACHER), "soft", 1.0)
    value = fn(IMAGES, logits, paddle.to_tensor(TARGETS))
    value.backward()
    assert float(value) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(logits.grad.numpy(), 0, atol=1e-12)


def test_the_gradient_is_towards_the_teachers_answers():
    """d/dz of τ² KL / (B K) is τ (softmax(z / τ) − softmax(t / τ)) / (B K)."""
    logits = paddle.to_tensor(2 * STUDENT, stop_gradient=False)
    fn = DistillationLoss(
        SoftTargetCrossEntropy(), lambda images: paddle.to_tensor(2 * TEACHER), "soft", 1.0, 2.0
    )
    fn(IMAGES, logits, paddle.to_tensor(TARGETS)).backward()
    # 2 ((1, 2, 5) − (4, 3, 1)) / 8 / 6 and 2 ((3, 3, 2) − (1, 2, 5)) / 8 / 6
    by_hand = np.array([[-3, -1, 4], [2, 1, -3]]) / 24
    np.testing.assert_allclose(logits.grad.numpy(), by_hand, atol=1e-12)


@pytest.mark.parametrize("kind", ["soft", "hard"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_are_computed_in_float32(kind, dtype):
    student, teacher = (paddle.to_tensor(x).astype(dtype) for x in (STUDENT, TEACHER))
    fn = DistillationLoss(SoftTargetCrossEntropy(), lambda images: teacher, kind)
    value = fn(IMAGES, student, paddle.to_tensor(TARGETS))
    assert value.dtype == paddle.float32
    # What is left is the rounding of the logits themselves.
    exact = [x.astype("float32").numpy().astype(np.float64) for x in (student, teacher)]
    assert float(value) == pytest.approx(loss(kind, student=exact[0], teacher=exact[1]), rel=1e-6)


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_extreme_answers_stay_finite_and_are_not_cut_off(kind):
    student = np.array([[0, 500, 0], [0, 0, 500]], dtype=np.float32)
    teacher = np.array([[500, 0, 0], [500, 0, 0]], dtype=np.float32)
    # The teacher is sure of class 0, to which the student gives a probability of e^−500.
    by_hand = 500 * 2 / 6 if kind == "soft" else 500
    assert loss(kind, 1.0, student=student, teacher=teacher) == pytest.approx(by_hand, rel=1e-6)


def test_mixed_labels_reach_the_base_loss_and_mixed_images_the_teacher():
    seen = []

    def teacher(images):
        seen.append(images)
        return paddle.to_tensor(TEACHER)

    soft = paddle.to_tensor(np.array([[0.25, 0, 0.75], [1, 0, 0]]))
    images = paddle.randn([2, 1, 4, 4])
    fn = DistillationLoss(SoftTargetCrossEntropy(), teacher)
    value = fn(images, paddle.to_tensor(STUDENT), soft)
    # (0.25 ln 8/1 + 0.75 ln 8/5 + ln 8/3) / 2 = (0.5198603854 + 0.3525027219 + 0.9808292530) / 2
    assert float(value) == pytest.approx(0.5 * 0.9265961802 + 0.5 * KL, rel=1e-9)
    np.testing.assert_array_equal(seen[0].numpy(), images.numpy())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"kind": "none"}, "'none'; use soft or hard"),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"alpha": -0.1}, "alpha is -0.1"),
        ({"tau": 0.0}, "tau is 0.0"),
        ({"tau": float("inf")}, "tau is inf"),
    ],
)
def test_impossible_settings_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        loss(**setting)


def test_other_classes_than_the_students_are_refused():
    with pytest.raises(ConfigError, match=r"teacher answers with \[2, 4\] and the student with \[2, 3\]"):
        loss(teacher=np.zeros((2, 4)))


def test_a_bare_network_is_refused_because_it_would_be_trained_along():
    with pytest.raises(ConfigError, match="bare network"):
        DistillationLoss(SoftTargetCrossEntropy(), nn.Linear(3, 3))


# ---- with real networks


@pytest.fixture
def taught():
    """(student, teacher's network, loss): the teacher has batch norms, which a training mode would change."""
    paddle.seed(0)
    network = RegNet(REGNETX["regnetx_200mf"], 5)
    student = cyclemlp.create_model("cyclemlp_nano", num_classes=5)
    teacher = Teacher("regnetx_200mf", network, Preprocessing(), num_classes=5)
    return student, network, DistillationLoss(SoftTargetCrossEntropy(0.1), teacher)


def test_the_teacher_is_left_alone(taught):
    student, network, fn = taught
    before = {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}
    keys = list(student.state_dict())
    optimizer = paddle.optimizer.AdamW(1e-2, parameters=student.parameters(), weight_decay=0.05)
    images, labels = paddle.randn([4, 3, 32, 32]), paddle.to_tensor([0, 1, 2, 3])
    values = []
    for _ in range(4):
        student.train()
        fn.train()
        value = fn(images, student(images), labels)
        value.backward()
        optimizer.step()
        optimizer.clear_grad()
        values.append(float(value))
    assert values[-1] < values[0]
    assert not any(layer.training for layer in network.sublayers(include_self=True))
    assert all(parameter.grad is None for parameter in network.parameters())
    for name, tensor in network.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name], err_msg=name)
    assert list(student.state_dict()) == keys
    assert not fn.state_dict()
    assert not fn.parameters()


def test_no_gradient_passes_through_the_teacher(taught):
    student, _, fn = taught
    images = paddle.randn([2, 3, 32, 32])
    images.stop_gradient = False
    logits = student(images).detach()
    logits.stop_gradient = False
    fn(images, logits, paddle.to_tensor([0, 1])).backward()
    assert images.grad is None
    assert float(logits.grad.abs().sum()) > 0


def test_no_gradient_reaches_a_teacher_that_is_not_frozen():
    network = nn.Linear(4, 3)
    fn = DistillationLoss(SoftTargetCrossEntropy(), lambda images: network(images))
    logits = paddle.zeros([2, 3])
    logits.stop_gradient = False
    fn(paddle.ones([2, 4]), logits, paddle.to_tensor(TARGETS)).backward()
    assert network.weight.grad is None
    assert logits.grad is not None


def test_a_recipe_without_distillation_is_its_base_loss():
    fn = build_loss(SoftTargetCrossEntropy(), DistillationConfig(), nn.Layer(), say=pytest.fail)
    value = fn(IMAGES, paddle.to_tensor(STUDENT), paddle.to_tensor(TARGETS))
    assert float(value) == pytest.approx(BASE, rel=1e-9)
