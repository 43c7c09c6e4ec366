"""The recipe: everything that decides what a training run computes, in one dataclass that YAML can hold.

Where results go and which device computes them are not part of it. The defaults are the authors' whole recipe for
ImageNet; what makes no sense for little data, a file under `configs/` switches off. No Paddle here, so that `--help`
and checks are quick.
"""

from __future__ import annotations

import difflib
import math
import os
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from cyclemlp.errors import ConfigError
from cyclemlp.preprocessing import Preprocessing, checked, parse_size
from cyclemlp.text import printable, shortened, shown
from cyclemlp.yaml_files import parse_yaml, read_yaml

#: Bounds that no run wants to pass: beyond them a number is a slip, and would take memory or time without end.
MAX_TEXT = 4096  # characters of a name or path
MAX_CLASSES = 1_000_000
MAX_BATCH = 65_536
MAX_WORKERS = 1024
MAX_EPOCHS = 1_000_000
MAX_STEPS = 10**9
MAX_RATIO = 100.0  # width / height of a crop
MAX_REPEATS = 1000


@dataclass
class ModelPart:
    """Which network, and where it starts.

    Attributes:
        name: one of `cyclemlp.list_models()`.
        weights: file to start from, "published" for the authors' ImageNet weights, None for random ones.
        drop_path_rate: stochastic depth of the last block, in [0, 1).
        freeze_stages: how many of the first stages keep the weights they start with; 1 or more freezes the patch
            embedding too, 4 leaves the last norm and the head.
        overrides: further arguments of `create_model` (in_chans, drop_rate, recompute, …).
    """

    name: str = "cyclemlp_b1"
    weights: str | None = None
    drop_path_rate: float = 0.1
    freeze_stages: int = 0
    overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check("model.drop_path_rate", self.drop_path_rate, 0 <= self.drop_path_rate < 1, "a rate in [0, 1)")
        _check("model.freeze_stages", self.freeze_stages, 0 <= self.freeze_stages <= 4, "from 0 to 4")
        for key in ("num_classes", "drop_path_rate"):
            if key in self.overrides:
                way = "it comes from the data" if key == "num_classes" else f"set model.{key}"
                raise ConfigError(f"model.overrides holds {key}; leave it out: {way}")


@dataclass
class DataPart:
    """Which images, and how they are fed.

    Attributes:
        train: "digits", or a folder; with `train_list`, names in the list are relative to it.
        train_list: text file, a line `name label` an image.
        val, val_list: the same for the images that are evaluated each epoch; `val` defaults to `train` where
            `val_list` is given, and to the held-out fifth of the digits.
        class_map: file of lines `wordnet-id index`, or "imagenet".
        classes: file of class names, one a line, or "imagenet"; None takes folder names.
        num_classes: how many classes a list without names has, where not all of them need occur in it; None takes
            the highest label plus 1.
        batch_size: images a step, on each device.
        workers: processes that read images; 0 reads in the main one, None decides by number of images.
            Results do not depend on it.
        preprocessing: what differs from the model's own preprocessing (input_size: a side, or height and
            width as [192, 256] or 192x256; crop_pct, interpolation, mean, std, exif); saved with the model and
            used again in evaluation.
    """

    train: str | None = None
    train_list: str | None = None
    val: str | None = None
    val_list: str | None = None
    class_map: str | None = None
    classes: str | None = None
    num_classes: int | None = None
    batch_size: int = 128
    workers: int | None = None
    preprocessing: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = self.num_classes
        good = count is None or 1 <= count <= MAX_CLASSES
        _check("data.num_classes", count, good, f"at least 1 and at most {MAX_CLASSES}, or null")
        good = 1 <= self.batch_size <= MAX_BATCH
        _check("data.batch_size", self.batch_size, good, f"at least 1 image and at most {MAX_BATCH}")
        good = self.workers is None or 0 <= self.workers <= MAX_WORKERS
        _check("data.workers", self.workers, good, f"0 or more processes, at most {MAX_WORKERS}, or null")
        known = [f.name for f in fields(Preprocessing)]
        for key in self.preprocessing:
            if key not in known:
                raise _unknown(f"data.preprocessing.{key}", str(key), known)
        size = self.preprocessing.get("input_size")
        try:
            if isinstance(size, str):  # as it is typed after --input-size
                self.preprocessing = {**self.preprocessing, "input_size": parse_size(size)}
            self.preprocessing = {key: checked(key, value) for key, value in self.preprocessing.items()}
        except ConfigError as error:
            text = str(error) if str(error).startswith(tuple(known)) else f"input_size: {error}"
            raise ConfigError(f"data.preprocessing.{text}") from None


@dataclass
class AugmentPart:
    """What happens to training images: each by itself, then to a batch; see `cyclemlp.data`.

    Attributes:
        crop_scale: least and greatest area of the part that is taken, as shares of the image's, in (0, 1].
        crop_ratio: least and greatest width / height of the part.
        hflip: probability of mirroring left and right; 0 for digits or writing.
        interpolation: of resizing: nearest, bilinear, bicubic or random (one of the last two); None takes the
            preprocessing's.
        auto_augment: RandAugment or AutoAugment in timm's words, such as "rand-m9-mstd0.5-inc1" or "original".
        color_jitter: strength of brightness, contrast and saturation; only used where `auto_augment` is null.
        erasing_prob, erasing_mode, erasing_count: random erasing: probability, "pixel", "rand" or "const", largest
            number of rectangles.
        mixup, cutmix: α of the Beta distribution of the share; 0 is none.
        cutmix_minmax: least and greatest side of cutmix's rectangle, as shares, instead of from Beta.
        mixup_prob: probability that a batch is mixed at all.
        mixup_switch_prob: probability of cutmix where both are on.
        mixup_mode: "batch", "pair" or "elem": for what a share is drawn.
        repeats: repeated augmentation: how often each image that an epoch takes comes in it; an epoch stays as
            long. 1 is none.
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: float = 0.5
    interpolation: str | None = None
    auto_augment: str | None = "rand-m9-mstd0.5-inc1"
    color_jitter: float = 0.4
    erasing_prob: float = 0.25
    erasing_mode: str = "pixel"
    erasing_count: int = 1
    mixup: float = 0.8
    cutmix: float = 1.0
    cutmix_minmax: tuple[float, float] | None = None
    mixup_prob: float = 1.0
    mixup_switch_prob: float = 0.5
    mixup_mode: str = "batch"
    repeats: int = 3

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        _check("augment.crop_scale", self.crop_scale, 0 < low <= high <= 1, "two shares in (0, 1], rising")
        low, high = self.crop_ratio
        _check(
            "augment.crop_ratio",
            self.crop_ratio,
            1 / MAX_RATIO <= low <= high <= MAX_RATIO,
            f"two ratios above 0, rising, from {1 / MAX_RATIO:g} to {MAX_RATIO:g}",
        )
        for name in ("hflip", "erasing_prob", "mixup_prob", "mixup_switch_prob"):
            value = getattr(self, name)
            _check(f"augment.{name}", value, 0 <= value <= 1, "a probability in [0, 1]")
        for name in ("color_jitter", "mixup", "cutmix"):
            _check(
                f"augment.{name}",
                getattr(self, name),
                _finite(getattr(self, name), 0),
                "0 (none) or more",
            )
        if self.cutmix_minmax is not None:
            low, high = self.cutmix_minmax
            good = 0 <= low <= high <= 1
            _check("augment.cutmix_minmax", self.cutmix_minmax, good, "two shares in [0, 1], rising")
        ways = (None, "nearest", "bilinear", "bicubic", "random")
        for name, words in (
            ("interpolation", ways),
            ("erasing_mode", ("pixel", "rand", "const")),
            ("mixup_mode", ("batch", "pair", "elem")),
        ):
            value = getattr(self, name)
            _check(f"augment.{name}", value, value in words, f"one of: {', '.join(map(str, words))}")
        for name in ("erasing_count", "repeats"):
            value = getattr(self, name)
            _check(
                f"augment.{name}", value, 1 <= value <= MAX_REPEATS, f"at least 1 and at most {MAX_REPEATS}"
            )


@dataclass
class OptimizerPart:
    """AdamW (Loshchilov and Hutter, 2019), without decay on biases and norms.

    Attributes:
        lr: highest learning rate, for a batch of `lr_for_batch` images.
        lr_for_batch: linear scaling rule: the rate used is lr · batch_size / lr_for_batch; None uses `lr` as is.
        weight_decay: decoupled decay, times the learning rate a step.
        beta1, beta2: decay of the two running means, in [0, 1).
        eps: added to the root of the second mean.
        clip_norm: largest norm of all gradients together; None clips nothing.
        layer_decay: the rate of a block is this times that of the block above it (the head's is the full one); None
            gives all the same. 0.65 to 0.9 is usual in fine-tuning.
        accumulate: each step is computed in so many parts, one after the other, where a batch does not fit in
            memory; the result is that of the whole batch.
    """

    lr: float = 5e-4
    lr_for_batch: int | None = 512
    weight_decay: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    clip_norm: float | None = None
    layer_decay: float | None = None
    accumulate: int = 1

    def __post_init__(self) -> None:
        _check("optimizer.lr", self.lr, _finite(self.lr) and self.lr > 0, "above 0")
        batch = self.lr_for_batch
        good = batch is None or 1 <= batch <= MAX_STEPS
        _check("optimizer.lr_for_batch", batch, good, f"at least 1 and at most {MAX_STEPS}, or null")
        _check(
            "optimizer.weight_decay",
            self.weight_decay,
            _finite(self.weight_decay, 0),
            "0 or more",
        )
        for name in ("beta1", "beta2"):
            _check(f"optimizer.{name}", getattr(self, name), 0 <= getattr(self, name) < 1, "in [0, 1)")
        _check(
            "optimizer.eps",
            self.eps,
            _finite(self.eps) and self.eps > 0,
            "above 0",
        )
        clip = self.clip_norm
        _check(
            "optimizer.clip_norm",
            clip,
            clip is None or (_finite(clip) and clip > 0),
            "above 0, or null",
        )
        decay = self.layer_decay
        _check("optimizer.layer_decay", decay, decay is None or 0 < decay <= 1, "in (0, 1], or null")
        good = 1 <= self.accumulate <= MAX_BATCH
        _check("optimizer.accumulate", self.accumulate, good, f"at least 1 part and at most {MAX_BATCH}")

    def scaled_lr(self, batch_size: int) -> float:
        """The highest learning rate for `batch_size` images a step, of all devices together."""
        return self.lr * batch_size / self.lr_for_batch if self.lr_for_batch else self.lr


@dataclass
class SchedulePart:
    """Linear warm-up, a cosine to the minimum, and a cool-down at it.

    Attributes:
        by: "epoch" holds the rate through an epoch, as the authors do; "step" moves it at every step.
        warmup_epochs: length of the warm-up; may be a fraction. It is part of the cosine's epochs.
        warmup_lr, min_lr: rate at the start and at the end; never taken above the base rate.
        cooldown_epochs: the run's last epochs, at `min_lr`. (The authors configured 10 after epoch 300, where their
            run ends.)
        cosine_epochs: epoch at which the cosine arrives, if not at the cool-down's beginning: whatever the length of
            the run.
        shift_epochs: how many epochs the schedule is ahead of the run; with `by` epoch, 1 makes the first step down
            after the first epoch, not the second.
    """

    by: str = "epoch"
    warmup_epochs: float = 5.0
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    cooldown_epochs: int = 0
    cosine_epochs: int | None = None
    shift_epochs: int = 0

    def __post_init__(self) -> None:
        _check("schedule.by", self.by, self.by in ("epoch", "step"), "one of: epoch, step")
        for name in ("warmup_lr", "min_lr"):
            _check(
                f"schedule.{name}",
                getattr(self, name),
                _finite(getattr(self, name), 0),
                "0 or more",
            )
        for name in ("warmup_epochs", "cooldown_epochs"):
            value = getattr(self, name)
            _check(f"schedule.{name}", value, 0 <= value <= MAX_EPOCHS, f"0 or more and at most {MAX_EPOCHS}")
        length, shift = self.cosine_epochs, self.shift_epochs
        good = length is None or 1 <= length <= MAX_EPOCHS
        _check("schedule.cosine_epochs", length, good, f"at least 1 and at most {MAX_EPOCHS}, or null")
        good = abs(shift) <= MAX_EPOCHS
        _check("schedule.shift_epochs", shift, good, f"from -{MAX_EPOCHS} to {MAX_EPOCHS}")
        if self.cooldown_epochs and length is not None:
            raise ConfigError(
                "schedule.cosine_epochs and schedule.cooldown_epochs both say where the cosine ends; give one"
            )


@dataclass
class LossPart:
    """Soft-target cross entropy.

    Attributes:
        label_smoothing: share of the target spread over all classes, in [0, 1).
    """

    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        _check(
            "loss.label_smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "a share in [0, 1)"
        )


@dataclass
class DistillationPart:
    """Whether the student also learns from a teacher's answers; see `cyclemlp.training.distillation`.

    Attributes:
        kind: "none", "soft" (the teacher's probabilities) or "hard" (its most probable class).
        teacher: one of `cyclemlp.teachers.list_teachers()`, or a run's folder or file of ours.
        weights: the teacher's weight file, or "published" for a CycleMLP of the paper; None only if `teacher` is a
            folder or file.
        alpha: the teacher's share of the loss, in [0, 1].
        tau: temperature of both softmaxes, above 0; only for "soft".
    """

    kind: str = "none"
    teacher: str = "regnetx_4gf"
    weights: str | None = None
    alpha: float = 0.5
    tau: float = 1.0

    def __post_init__(self) -> None:
        kinds = ("none", "soft", "hard")
        _check("distillation.kind", self.kind, self.kind in kinds, f"one of: {', '.join(kinds)}")
        _check("distillation.alpha", self.alpha, 0 <= self.alpha <= 1, "a share in [0, 1]")
        _check(
            "distillation.tau",
            self.tau,
            _finite(self.tau) and self.tau > 0,
            "above 0",
        )


@dataclass
class EmaPart:
    """An exponential moving average of the weights, evaluated and saved beside the raw ones.

    Attributes:
        decay: share of the average that stays at each step, in [0, 1); None keeps no average.
        warmup: at the n-th step, from 0, at most (1 + n) / (10 + n) stays: else a short run's average would still be
            its initial weights.
    """

    decay: float | None = 0.99996
    warmup: bool = True

    def __post_init__(self) -> None:
        _check("ema.decay", self.decay, self.decay is None or 0 <= self.decay < 1, "in [0, 1), or null")


@dataclass
class AmpPart:
    """Mixed precision; see `cyclemlp.training.amp`. On a CPU it changes nothing, and this is said.

    Attributes:
        dtype: "float16" (with a scaled loss), "bfloat16", or None for float32 throughout.
        init_loss_scaling: what a float16 loss is multiplied by at first.
        growth_steps: steps without an overflow after which that doubles; an overflow halves it.
    """

    dtype: str | None = "float16"
    init_loss_scaling: float = 65536.0
    growth_steps: int = 2000

    def __post_init__(self) -> None:
        types_ = ("float16", "bfloat16")
        good = self.dtype is None or self.dtype in types_
        _check("amp.dtype", self.dtype, good, f"one of: {', '.join(types_)}, null")
        scale = self.init_loss_scaling
        good = 1 <= scale <= 2.0**64
        _check("amp.init_loss_scaling", scale, good, "at least 1 and at most 2**64")
        good = 1 <= self.growth_steps <= MAX_STEPS
        _check("amp.growth_steps", self.growth_steps, good, f"at least 1 and at most {MAX_STEPS}")


@dataclass
class RunPart:
    """How long, and what is kept.

    Attributes:
        epochs: passes over the training images.
        start_epoch: how many of them count as done before the run: their places in the schedule and among the random
            draws are left out. (To go on with a run, resume it.)
        seed: of initial weights, order, augmentation, dropout: one seed, one result.
        checkpoint_epochs: a checkpoint every so many epochs, and after the last.
        keep_checkpoints: how many of the newest stay; the best model stays anyway.
    """

    epochs: int = 300
    start_epoch: int = 0
    seed: int = 0
    checkpoint_epochs: int = 1
    keep_checkpoints: int = 3

    def __post_init__(self) -> None:
        for name in ("epochs", "checkpoint_epochs", "keep_checkpoints"):
            value = getattr(self, name)
            _check(f"run.{name}", value, 1 <= value <= MAX_EPOCHS, f"at least 1 and at most {MAX_EPOCHS}")
        good = 0 <= self.start_epoch < self.epochs
        _check("run.start_epoch", self.start_epoch, good, f"from 0, and less than run.epochs ({self.epochs})")
        _check("run.seed", self.seed, 0 <= self.seed < 2**32, "from 0 to 4294967295")


@dataclass
class Recipe:
    """All parts of a training run; see each."""

    model: ModelPart = field(default_factory=ModelPart)
    data: DataPart = field(default_factory=DataPart)
    augment: AugmentPart = field(default_factory=AugmentPart)
    optimizer: OptimizerPart = field(default_factory=OptimizerPart)
    schedule: SchedulePart = field(default_factory=SchedulePart)
    loss: LossPart = field(default_factory=LossPart)
    distillation: DistillationPart = field(default_factory=DistillationPart)
    ema: EmaPart = field(default_factory=EmaPart)
    amp: AmpPart = field(default_factory=AmpPart)
    run: RunPart = field(default_factory=RunPart)

    def __post_init__(self) -> None:
        if self.schedule.cooldown_epochs >= self.run.epochs:
            raise ConfigError(
                f"schedule.cooldown_epochs is {self.schedule.cooldown_epochs}; it must be less than run.epochs, "
                f"{self.run.epochs}, of which it is the end"
            )

    def to_dict(self) -> dict[str, Any]:
        """As plain values, part by part."""
        return _plain(asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "the recipe") -> Recipe:
        """From `to_dict`'s values; what is left out has its default.

        Args:
            where: named in messages, the file's path say.

        Raises:
            ConfigError: an unknown key (the nearest known one is named), a value of the wrong type or range.
        """
        try:
            return _build(cls, values, "")
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a YAML file.

        Raises:
            ConfigError: it cannot be read, is not YAML or none that `read_yaml` takes, or `from_dict` refuses it; the
                message names the file.
        """
        values = read_yaml(path)
        return cls.from_dict({} if values is None else values, where=str(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as YAML, whole or not at all."""
        path = Path(path)
        written = path.with_name(f".{path.name}.partial")
        written.write_text(self.to_yaml(), encoding="utf-8")
        written.replace(path)

    def to_yaml(self) -> str:
        """The YAML text, with every key."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def updated(self, assignments: Mapping[str, Any], *, where: str = "the recipe") -> Recipe:
        """A copy with some keys changed.

        Args:
            assignments: dotted key (`optimizer.lr`) to value.

        Raises:
            ConfigError: as `from_dict`.
        """
        values = self.to_dict()
        for dotted, value in assignments.items():
            *parents, last = dotted.split(".")
            part = values
            for i, name in enumerate(parents):
                if not isinstance(part.get(name), dict):
                    known = [k for k, v in part.items() if isinstance(v, dict)]
                    raise ConfigError(f"{where}: {_unknown('.'.join(parents[: i + 1]), name, known)}")
                part = part[name]
            if not parents:
                known = [k for k in flatten(values) if k.endswith(f".{last}")]
                raise ConfigError(
                    f"{where}: {shown(dotted)} needs its part: {known[0] if known else 'section.key'}=…"
                )
            part[last] = value
        return type(self).from_dict(values, where=where)


def parse_assignments(texts: Sequence[str], *, option: str = "--set") -> dict[str, Any]:
    """`["optimizer.lr=3e-4", …]` → dotted key to value, values read as YAML.

    Args:
        option: named in messages.

    Raises:
        ConfigError: no `=`, or the value is not YAML.
    """
    assignments = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            example = "section.key=value, such as optimizer.lr=3e-4" if option == "--set" else "key=value"
            raise ConfigError(f"{option} {shown(text)}: write {example}")
        assignments[key.strip()] = parse_yaml(value, f"{option} {shown(text)}: the value")
    return assignments


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping → dotted key to value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping) and value
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def differences(old: Recipe, new: Recipe) -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, old value, new value) of every key that differs."""
    before, after = flatten(old.to_dict()), flatten(new.to_dict())
    for key in dict.fromkeys([*before, *after]):
        if before.get(key) != after.get(key):
            yield key, before.get(key), after.get(key)


# ---- checks and conversions


def _build(cls: Any, values: Any, prefix: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{prefix[:-1] or 'the whole'} is {shown(values)}; expected a mapping of keys to values"
        )
    hints = get_type_hints(cls)
    known = [f.name for f in fields(cls)]
    for key in values:
        if key not in known:
            raise _unknown(f"{prefix}{key}", str(key), known)
    return cls(**{key: _convert(value, hints[key], f"{prefix}{key}") for key, value in values.items()})


def _convert(value: Any, hint: Any, where: str) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        if value is None:
            return None
        (hint,) = (h for h in get_args(hint) if h is not type(None))
    if is_dataclass(hint):
        return _build(hint, {} if value is None else value, f"{where}.")
    if get_origin(hint) is dict:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is {shown(value)}; expected a mapping of keys to values")
        if not all(isinstance(key, str) for key in value):
            raise ConfigError(f"{where} is {shown(value)}; expected names as its keys")
        return dict(value)
    if get_origin(hint) is tuple:
        length = len(get_args(hint))
        if not isinstance(value, list | tuple) or len(value) != length:
            raise ConfigError(f"{where} is {shown(value)}; expected a list of {length} numbers")
        return tuple(
            _convert(v, h, f"{where}[{i}]")
            for i, (v, h) in enumerate(zip(value, get_args(hint), strict=True))
        )
    if hint is float:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            try:
                return float(value)
            except (ValueError, OverflowError):
                pass
        raise ConfigError(f"{where} is {shown(value)}; expected a number")
    if hint is str and isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 64:
        value = str(value)  # a folder named 2012
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        wanted = {int: "a whole number", str: "text", bool: "true or false"}[hint]
        raise ConfigError(f"{where} is {shown(value)}; expected {wanted}")
    if hint is str and (len(value) > MAX_TEXT or "\0" in value):
        raise ConfigError(
            f"{where} is {shown(value)}; expected text of at most {MAX_TEXT} characters, without 0 bytes"
        )
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _unknown(dotted: str, key: str, known: Sequence[str]) -> ConfigError:
    near = difflib.get_close_matches(shortened(key), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    return ConfigError(
        f"unknown key {printable(shortened(dotted), lines=False)}; {hint}The possible ones are {', '.join(known)}"
    )


def _finite(value: float, least: float = -math.inf) -> bool:
    return math.isfinite(value) and value >= least


def _check(name: str, value: Any, good: bool, wanted: str) -> None:
    if not good:
        raise ConfigError(f"{name} is {shown(value)}; it must be {wanted}")
