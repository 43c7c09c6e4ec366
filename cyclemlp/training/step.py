"""One step: from a batch of images to changed weights."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn

from cyclemlp.data import Mixup
from cyclemlp.kernels.finite import are_finite
from cyclemlp.teachers.distillation import Loss, build_loss
from cyclemlp.training.amp import MixedPrecision
from cyclemlp.training.augmentation import build_mixup
from cyclemlp.training.distributed import ALONE, World, gradients_stay_here
from cyclemlp.training.ema import Ema
from cyclemlp.training.losses import ClassCounts, build_base_loss
from cyclemlp.training.model import freeze_stages, training_mode
from cyclemlp.training.optimizer import build_optimizer
from cyclemlp.training.recipe import Recipe


@dataclass
class Stepper:
    """What every step of a run works with.

    Attributes:
        world: the processes that do each step together.
        model: what is trained.
        network: how it is called: the model itself, or what averages its gradients over several processes.
        frozen: its layers that stay as they are.
        mixup: mixes images and labels of a batch, and smooths the labels.
        loss_fn: of (images, logits, targets).
        optimizer, amp: what updates the parameters, in which precision.
        ema: the weights' average, or None.
        parts: each step's batch is computed in so many parts.
    """

    world: World
    model: nn.Layer
    network: nn.Layer
    frozen: list[nn.Layer]
    mixup: Mixup
    loss_fn: Loss
    optimizer: paddle.optimizer.Optimizer
    amp: MixedPrecision
    ema: Ema | None = None
    parts: int = 1

    @classmethod
    def from_recipe(
        cls,
        recipe: Recipe,
        model: nn.Layer,
        *,
        lr: float,
        classes: ClassCounts | None = None,
        world: World = ALONE,
        say: Callable[[str], None] = print,
    ) -> Stepper:
        """The recipe's, for a model with its metadata; stages are frozen, a teacher is read.

        Args:
            lr: learning rate to begin with.
            classes: the training images of each class; for a loss with weights.
            world: the processes of the run; all get the first one's weights.
            say: takes a text for people on the teacher.

        Raises:
            ConfigError, ModelError, WeightsError: from the recipe's components.
        """
        # The optimizer and what averages gradients know every parameter that is trained in any epoch.
        frozen = freeze_stages(model, recipe.model.frozen_stages(recipe.run.epochs - 1))
        amp = MixedPrecision(recipe.amp)
        base = build_base_loss(recipe.loss, classes, multi_label=recipe.multi_label)
        # Before its average is taken, after what stays frozen is.
        network = world.wrap(model, some_unused=recipe.model.unfreeze_epochs is not None)
        return cls(
            world=world,
            model=model,
            network=network,
            frozen=frozen,
            mixup=build_mixup(recipe.augment, model.config.num_classes, recipe.label_smoothing),
            loss_fn=build_loss(base, recipe.distillation, model, say, amp.autocast),
            optimizer=build_optimizer(model, recipe.optimizer, lr=lr),
            amp=amp,
            ema=Ema.from_config(model, recipe.ema),
            parts=recipe.optimizer.accumulate,
        )

    def freeze(self, count: int) -> None:
        """Freeze the first stages, and no others."""
        self.frozen = freeze_stages(self.model, count)

    def train(self) -> None:
        """Training mode."""
        training_mode(self.model, self.frozen)

    def backward(self, images: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
        """Compute the gradients of a batch's mean loss, and return that, without waiting for the device.

        In parts, each part's loss counts by its share of the images: gradients and loss are those of the whole batch,
        whatever the precision, the teacher or the mixing, which is done before. Only dropout and drop path draw anew.

        Args:
            images: [B, C, H, W], mixed.
            targets: [B, K]; their rows sum to 1, but of several labels an image.

        Returns:
            A scalar, float64.
        """
        size, losses = len(images), []
        edges = np.linspace(0, size, min(self.parts, size) + 1).astype(int).tolist()
        for begin, end in itertools.pairwise(edges):
            part, wanted = images[begin:end], targets[begin:end]
            with gradients_stay_here(self.network, end < size):
                with self.amp.autocast():
                    logits = self.network(part)
                loss = self.loss_fn(part, logits, wanted) * ((end - begin) / size)
                self.amp.backward(loss)
            losses.append(loss.detach().astype("float64"))
        return functools.reduce(operator.add, losses)

    def finite(self, loss: paddle.Tensor) -> bool:
        """Whether a loss and its gradients are finite: the one value of a step that is read from the device.

        Scaled gradients of float16 may overflow: `update` looks at them.
        """
        grads = [p.grad for p in self.optimizer._parameter_list if p.grad is not None]
        return are_finite(loss, [] if self.amp.dtype == "float16" else grads)

    def update(self, updates: int) -> bool:
        """Change the weights by the gradients, which are then forgotten, and the average by the weights.

        Args:
            updates: how many there were before.

        Returns:
            Whether it was done: a float16 step that overflowed changes no weight, no average and nothing in the
            optimizer.

        Raises:
            FloatingPointError: float16 gradients that overflow however little the loss is scaled.
        """
        done = self.amp.step(self.optimizer)
        self.optimizer.clear_grad()
        if done and self.ema is not None:
            self.ema.update(self.model, updates)
        return done
