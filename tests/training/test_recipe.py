"""The recipe: read, checked, written, overridden; what is wrong is named with its key and the way out."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import yaml
from recipe_keys import differences

from cyclemlp.config import commented_yaml, flatten, parse_assignments
from cyclemlp.errors import ConfigError
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.training.recipe import Recipe

ROOT = Path(__file__).parents[2]


def test_the_defaults_are_the_authors():
    recipe = Recipe()
    assert recipe.optimizer.scaled_lr(1024) == pytest.approx(1e-3)
    assert (recipe.optimizer.beta1, recipe.optimizer.beta2, recipe.optimizer.eps) == (0.9, 0.999, 1e-8)
    assert (recipe.optimizer.weight_decay, recipe.label_smoothing, recipe.model.drop_path_rate) == (
        0.05,
        0.1,
        0.1,
    )
    schedule = recipe.schedule
    assert (schedule.by, schedule.warmup_epochs, schedule.warmup_lr, schedule.min_lr) == (
        "epoch",
        5,
        1e-6,
        1e-5,
    )
    assert recipe.run.epochs == 300
    assert (schedule.cooldown_epochs, schedule.cosine_epochs) == (0, None)
    augment = recipe.augment
    assert (augment.crop_scale, augment.crop_ratio, augment.hflip) == ((0.08, 1.0), (3 / 4, 4 / 3), 0.5)
    assert (augment.auto_augment, augment.color_jitter) == ("rand-m9-mstd0.5-inc1", 0.4)
    assert (augment.erasing_prob, augment.erasing_mode, augment.erasing_count) == (0.25, "pixel", 1)
    assert (augment.mixup, augment.cutmix, augment.cutmix_minmax) == (0.8, 1.0, None)
    assert (augment.mixup_prob, augment.mixup_switch_prob, augment.mixup_mode) == (1.0, 0.5, "batch")
    assert augment.repeats == 3
    assert (recipe.ema.decay, recipe.amp.dtype, recipe.distillation.kind) == (0.99996, "float16", "none")
    assert (recipe.optimizer.clip_norm, recipe.optimizer.layer_decay, recipe.optimizer.accumulate) == (
        None,
        None,
        1,
    )
    assert recipe.data.batch_size * 8 == 1024


@pytest.mark.parametrize("n", range(1, 6))
def test_the_imagenet_recipes_are_the_defaults_but_for_the_model(n):
    recipe = Recipe.load(ROOT / "configs" / "imagenet" / f"cyclemlp_b{n}.yaml")
    assert recipe.model.name == f"cyclemlp_b{n}"
    changed = {key for key, *_ in differences(Recipe(), recipe)}
    ours = {"model.name", "data.classes"} | {key for key in changed if key.startswith("data.preprocessing")}
    assert changed <= ours | {"loss.label_smoothing"}
    assert recipe.label_smoothing == Recipe().label_smoothing
    preprocessing = recipe.data.preprocessing.applied_to(Preprocessing())
    assert preprocessing == Preprocessing()  # 224 pixels, 0.875, bicubic, whatever some `default_cfg` says
    assert (preprocessing.resize_size, preprocessing.crop_pct) == (256, 0.875)


def test_small_data_switch_the_paper_off_by_name():
    recipe = Recipe.load(ROOT / "configs" / "digits.yaml")
    augment = recipe.augment
    assert (augment.auto_augment, augment.mixup, augment.cutmix, augment.erasing_prob) == (None, 0, 0, 0)
    assert (augment.color_jitter, augment.repeats, recipe.ema.decay, recipe.amp.dtype) == (0, 1, None, None)


def test_yaml_round_trip_is_exact(tmp_path):
    recipe = Recipe().updated(
        {"optimizer.lr": 0.1 + 0.2, "augment.crop_ratio": [2 / 3, 1.5], "model.overrides": {"in_chans": 1}}
    )
    recipe.save(tmp_path / "recipe.yaml")
    assert Recipe.load(tmp_path / "recipe.yaml") == recipe
    assert list(tmp_path.iterdir()) == [tmp_path / "recipe.yaml"]


def test_an_empty_file_and_empty_parts_are_the_defaults(tmp_path):
    path = tmp_path / "recipe.yaml"
    for text in ("", "model:\ndata:\n"):
        path.write_text(text)
        assert Recipe.load(path) == Recipe()


#: What lies under configs/, but for the configurations of PaddleSeg and PaddleDetection.
RECIPES = sorted(p for p in (ROOT / "configs").rglob("*.yaml") if p.parent.name not in ("seg", "det"))


@pytest.mark.parametrize("config", RECIPES, ids=lambda p: p.name)
def test_every_committed_recipe_is_valid_and_says_its_command(config):
    Recipe.load(config)
    head = config.read_text().split("\nmodel:")[0]
    assert f"cyclemlp train --config {config.relative_to(ROOT)}" in head


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimiser": {}}, "unknown key optimiser; did you mean optimizer?"),
        (
            {"optimizer": {"learnin_rate": 1}},
            "unknown key optimizer.learnin_rate; .* are name, lr, lr_for_batch",
        ),
        (
            {"optimizer": {"weight_decai": 1}},
            "unknown key optimizer.weight_decai; did you mean weight_decay?",
        ),
        (
            {"data": {"preprocessing": {"input_sise": 3}}},
            "preprocessing.input_sise; did you mean input_size?",
        ),
        ({"augment": {"auto_augmen": "x"}}, "augment.auto_augmen; did you mean auto_augment?"),
        ({"x" * 10_000: 1}, "unknown key xxx.*… The possible ones|unknown key xxx"),
        ({"optimizer": {"lr": "fast"}}, "optimizer.lr is 'fast'; expected a number above 0"),
        ({"optimizer": {"lr": True}}, "optimizer.lr is True; expected a number above 0"),
        ({"optimizer": {"lr": -1}}, "optimizer.lr is -1; expected a number above 0"),
        ({"optimizer": {"lr": math.nan}}, "optimizer.lr is nan; expected a number above 0"),
        ({"optimizer": {"lr": None}}, "optimizer.lr is None; expected a number"),
        ({"optimizer": {"clip_norm": 0}}, "optimizer.clip_norm is 0; expected a number above 0, or null"),
        ({"optimizer": {"beta2": 1}}, r"optimizer.beta2 is 1; expected a number in \[0, 1\)"),
        ({"optimizer": {"accumulate": 0}}, "optimizer.accumulate is 0; expected a whole number from 1"),
        ({"optimizer": {"layer_decay": 1.5}}, r"layer_decay is 1.5; expected a number in \(0, 1\], or null"),
        ({"run": {"epochs": 2.5}}, "run.epochs is 2.5; expected a whole number"),
        ({"run": {"epochs": True}}, "run.epochs is True; expected a whole number"),
        ({"run": {"epochs": 0}}, "run.epochs is 0; expected a whole number from 1 to 1000000"),
        ({"run": {"epochs": 10**50}}, "run.epochs is 1000.*; expected a whole number from 1 to 1000000"),
        ({"run": {"epochs": 2, "start_epoch": 2}}, "run.start_epoch is 2; expected less than run.epochs"),
        ({"run": {"seed": -1}}, "run.seed is -1; expected a whole number from 0 to 4294967295"),
        ({"schedule": {"by": "month"}}, "schedule.by is 'month'; expected one of: epoch, step"),
        ({"schedule": {"warmup_epochs": math.inf}}, "schedule.warmup_epochs is inf; expected a number"),
        ({"loss": {"label_smoothing": 1}}, r"loss.label_smoothing is 1; expected a number in \[0, 1\)"),
        ({"augment": {"crop_scale": [0.5]}}, r"augment.crop_scale is \[0.5\]; expected two shares"),
        ({"augment": {"crop_scale": [0.5, "x"]}}, r"augment.crop_scale is \[0.5, 'x'\]; expected two shares"),
        ({"augment": {"crop_scale": [1.0, 0.5]}}, "augment.crop_scale is .*rising"),
        ({"augment": {"crop_padding": 4, "crop_scale": [0.5, 1.0]}}, "both set how .*leave out one of them"),
        ({"augment": {"crop_ratio": [1e-300, 1]}}, "augment.crop_ratio is .*from 0.01 to 100"),
        ({"augment": {"cutmix_minmax": [0.5, 0.2]}}, "augment.cutmix_minmax is .*rising, or null"),
        ({"augment": {"hflip": 2}}, r"augment.hflip is 2; expected a number in \[0, 1\]"),
        ({"augment": {"mixup_mode": "all"}}, "mixup_mode is 'all'; expected one of: batch, pair, elem"),
        ({"augment": {"interpolation": "cubic"}}, "augment.interpolation is 'cubic'; expected one of"),
        ({"augment": {"mixup": -1}}, "augment.mixup is -1; expected a number of at least 0"),
        ({"augment": {"repeats": 0}}, "augment.repeats is 0; expected a whole number from 1"),
        ({"model": {"freeze_stages": 5}}, "model.freeze_stages is 5; expected a whole number from 0 to 4"),
        ({"model": {"drop_path_rate": 1}}, r"model.drop_path_rate is 1; expected a number in \[0, 1\)"),
        ({"model": {"overrides": {"num_classes": 3}}}, "num_classes; leave it out: it comes from the data"),
        ({"model": {"overrides": 3}}, "model.overrides is 3; expected a mapping"),
        ({"model": {"overrides": {1: 2}}}, "model.overrides is {1: 2}; expected a mapping of names"),
        ({"model": "cyclemlp_b1"}, "model is 'cyclemlp_b1'; expected a mapping"),
        ({"model": {"name": "x" * 10_000}}, "model.name is 'xxx.*…; expected text of at most 4096"),
        ({"ema": {"decay": 1}}, r"ema.decay is 1; expected a number in \[0, 1\), or null"),
        ({"amp": {"dtype": "float8"}}, "amp.dtype is 'float8'; expected one of: float16, bfloat16, or null"),
        ({"amp": {"init_loss_scaling": 0}}, r"amp.init_loss_scaling is 0; expected a number in \[1, "),
        (
            {"schedule": {"cooldown_epochs": 5}, "run": {"epochs": 5}},
            "schedule.cooldown_epochs is 5; it must be less than run.epochs, 5",
        ),
        (
            {"schedule": {"cooldown_epochs": 5, "cosine_epochs": 5}},
            "both set where the cosine ends; give one",
        ),
        ({"data": {"batch_size": 0}}, "data.batch_size is 0; expected a whole number from 1"),
        ({"data": {"batch_size": 10**9}}, "data.batch_size is 1000000000; expected a whole number from 1 to"),
        ({"data": {"workers": 10**6}}, "data.workers is 1000000; expected a whole number from 0 to 1024"),
        ({"data": {"train": ["a"]}}, r"data.train is \['a'\]; expected text"),
        ({"data": {"preprocessing": {"mean": "abc"}}}, "data.preprocessing.mean is 'abc'; expected a list"),
        ({"data": {"preprocessing": {"input_size": -5}}}, "data.preprocessing.input_size is -5; it must be"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, values, message):
    path = tmp_path / "my.yaml"
    path.write_text("# a recipe\n" + yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=message) as caught:
        Recipe.load(path)
    together = "cooldown" in message or "both" in message or "start_epoch" in message
    key = "" if together else message.split()[2 if message.startswith("unknown") else 0]
    found = re.match(rf"{re.escape(str(path))}(:(\d+))?: ", str(caught.value))
    assert found
    if not together and "xxx" not in key:
        line = path.read_text().splitlines()[int(found[2]) - 1]
        assert ("overrides" if "num_classes" in key else key.strip(";").rpartition(".")[2]) in line


@pytest.mark.parametrize("content", [b"a: [1", b"\xff\xfe", b"- 1\n- 2\n"])
def test_a_file_that_is_no_recipe_is_refused_by_name(tmp_path, content):
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"my\.yaml: "):
        Recipe.load(path)
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        Recipe.load(tmp_path / "absent.yaml")


def test_a_folder_named_by_a_number_is_text():
    assert Recipe.from_dict({"data": {"train": 2012}}).data.train == "2012"


def test_assignments_override_and_are_checked():
    texts = [
        "optimizer.lr=3e-4",
        "optimizer.lr_for_batch=null",
        "data.train=my photos",
        "model.overrides.in_chans=1",
    ]
    recipe = Recipe().updated(parse_assignments(texts))
    assert (recipe.optimizer.lr, recipe.optimizer.lr_for_batch, recipe.data.train) == (
        3e-4,
        None,
        "my photos",
    )
    assert recipe.model.overrides == {"in_chans": 1}
    assert Recipe().optimizer.lr == 5e-4
    for text, message in (
        ("lr=1", "'lr' needs its section: optimizer.lr="),
        ("optimizer.lrr=1", "unknown key optimizer.lrr; did you mean lr?"),
        ("optimiser.lr=1", "unknown key optimiser; did you mean optimizer?"),
        ("optimizer.lr.x=1", "unknown key optimizer.lr"),
    ):
        with pytest.raises(ConfigError, match=message):
            Recipe().updated(parse_assignments([text]))
    for text in ("optimizer.lr", "=3", "optimizer.lr=[1"):
        with pytest.raises(ConfigError, match="--set"):
            parse_assignments([text])


def test_differences_name_each_key_once():
    old = Recipe()
    new = old.updated({"optimizer.lr": 1e-3, "model.overrides": {"in_chans": 1}})
    assert list(differences(old, old)) == []
    assert {key: (a, b) for key, a, b in differences(old, new)} == {
        "optimizer.lr": (5e-4, 1e-3),
        "model.overrides": ({}, None),
        "model.overrides.in_chans": (None, 1),
    }


def test_a_commented_recipe_is_the_recipe_and_describes_every_key():
    recipe = Recipe.from_dict({"model": {"overrides": {"in_chans": 1}}, "data": {"train": "ä: b # c"}})
    text = commented_yaml(recipe)
    assert Recipe.from_dict(yaml.safe_load(text)) == recipe
    lines = text.splitlines()
    for line, before in zip(lines[1:], lines, strict=False):
        if not line.strip().startswith("#") and not line.endswith(":"):
            assert before.strip().startswith("# "), line


def test_numbers_that_no_float_holds():
    with pytest.raises(
        ConfigError, match=r"optimizer\.lr is a whole number of 1,329 bits; expected a number above 0"
    ):
        Recipe.from_dict({"optimizer": {"lr": 10**400}})


@pytest.mark.parametrize(
    "text",
    [
        *("run.epochs=nan", "run.epochs=1e999", "run.epochs=" + "9" * 400, "optimizer.lr=" + "[" * 3000),
        *("data.preprocessing={mean: abc}", "data.preprocessing={mean: [1, 2, .nan]}", "model.name=[a]"),
        *(
            "data.preprocessing={input_size: [1, 2, 3]}",
            "=",
            "a",
            "run=5",
            "x" * 5000,
            "run.\x1b[2J\n=1",
            "a.b=" + "x" * 300_000,
        ),
        *(
            "optimizer.lr={a: 1, a: 2}",
            "optimizer.lr=\x1b[31m",
            "y" * 5000 + "=1",
            "run." + "z" * 5000 + "=1",
        ),
    ],
    ids=lambda text: text[:20].replace("\x1b", ""),
)
def test_nonsense_on_the_command_line_is_an_error_of_one_line(text):
    with pytest.raises(ConfigError) as raised:
        Recipe().updated(parse_assignments([text]), where="command line")
    assert len(str(raised.value)) < 500
    assert str(raised.value).isprintable()


#: Values that a typing error, a shell or malice may give to any key.
NONSENSE = (
    *(
        "nan",
        ".nan",
        ".inf",
        "-.inf",
        "1e400",
        "-1",
        "''",
        "",
        "[]",
        "{}",
        "[[]]",
        "true",
        "null",
        "\x1b[2J",
        "\t",
        "½",
    ),
    *(
        "x" * 100_000,
        "9" * 30,
        "2020-01-01",
        "1:30",
        "!!python/object/apply:os.system [ls]",
        "&a [*a]",
        "*a",
        "[1,",
    ),
    *("[1, 2, 3, 4, 5]", "[.nan, .nan]", "[2, 1]", "{a: {b: c}}", "!!binary aGk=", "!!set {a}", "\ud800"),
)
#: Their values are the model's to judge.
FREE = "model.overrides"


KEYS = (*flatten(Recipe().to_dict()), "model", "data", "data.preprocessing.mean", ".", "model.")


@pytest.mark.parametrize(
    "keys", [KEYS[::8], pytest.param(KEYS, marks=pytest.mark.heavy)], ids=["some", "all"]
)
def test_nonsense_for_any_key_is_taken_as_it_can_be_written_or_refused(keys):
    refusals = []
    for key in keys:
        for value in NONSENSE:
            try:
                recipe = Recipe().updated(parse_assignments([f"{key}={value}"]), where="--set")
            except ConfigError as error:
                refusals.append(str(error))
                continue
            assert Recipe.from_dict(yaml.safe_load(recipe.to_yaml())).to_dict() == recipe.to_dict()
            taken = flatten(recipe.to_dict()).get(key)
            assert key == FREE or not isinstance(taken, float) or math.isfinite(taken), (key, value)
    assert len(refusals) > 15 * len(keys)
    assert max(map(len, refusals)) < 500
    assert all(map(str.isprintable, refusals))


def test_an_epoch_is_drawn_one_way():
    with pytest.raises(
        ConfigError, match=r"data.sampling is balanced and augment.repeats is 3: .*repeats to 1, or"
    ):
        Recipe.from_dict({"data": {"sampling": "balanced"}})
    recipe = Recipe.from_dict({"data": {"sampling": "balanced"}, "augment": {"repeats": 1}})
    assert recipe.data.sampling == "balanced"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("equal", r"loss.class_weights is 'equal'; expected `balanced`, a list of numbers above 0"),
        ([1, 0, 2], r"loss.class_weights is \[1, 0, 2\]; expected `balanced`"),
        ([], r"loss.class_weights is \[\]; expected `balanced`"),
        (2.0, r"loss.class_weights is 2.0; expected `balanced`"),
    ],
)
def test_class_weights_are_balanced_or_numbers(weights, message):
    with pytest.raises(ConfigError, match=message):
        Recipe.from_dict({"loss": {"class_weights": weights}})


def test_class_weights_come_back_from_a_file(tmp_path):
    for weights in ("balanced", [1, 2.5]):
        recipe = Recipe.from_dict({"loss": {"class_weights": weights}})
        recipe.save(tmp_path / "recipe.yaml")
        assert Recipe.load(tmp_path / "recipe.yaml") == recipe
