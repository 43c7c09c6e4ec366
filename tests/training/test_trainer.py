"""A run from end to end: it learns, it can be stopped anywhere, and nothing is lost."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import paddle
import pytest
from tiny_run import PLAIN, Some, same_weights, tiny_recipe, tiny_train

import cyclemlp
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.evaluation import as_callable, evaluate
from cyclemlp.preprocessing import Preprocessing
from cyclemlp.report import read_json_lines
from cyclemlp.training import Recipe, TrainingFailedError, TrainingStoppedError, trainer
from cyclemlp.training.step import Stepper


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of three epochs."""
    output = tmp_path_factory.mktemp("runs") / "whole"
    return tiny_train(output, command="cyclemlp train --config tiny.yaml")


def test_the_folder_holds_what_it_promises(whole):
    names = sorted(p.name for p in whole.output.iterdir())
    assert names == [
        "README.md",
        "best.safetensors",
        "best_ema.safetensors",
        "checkpoints",
        "curves.png",
        "log.jsonl",
        "recipe.yaml",
    ]
    assert Recipe.load(whole.output / "recipe.yaml") == tiny_recipe(data__decoder="fast")
    readme = (whole.output / "README.md").read_text()
    for words in ("cyclemlp train --config tiny.yaml", "| paddle |", "34 training, 20 validation", "(best)"):
        assert words in readme


def test_the_log_tells_each_epoch(whole):
    start, *epochs, end = read_json_lines(whole.output / "log.jsonl")
    assert start["event"] == "start"
    assert start["versions"]["paddle-cyclemlp"] == cyclemlp.__version__
    assert start["versions"]["paddle"].startswith(paddle.__version__)
    assert (end["event"], end["reason"], end["seconds"]) == ("end", "finished", epochs[-1]["seconds"])
    assert [r["epoch"] for r in epochs] == [1, 2, 3]
    for record in epochs:
        assert record["train_loss"] > 0
        assert record["val_loss"] > 0
        assert record["ema_loss"] > 0
        assert 0 <= record["ema_top1"] <= record["ema_top5"] <= 100
        assert 0 <= record["val_top1"] <= record["val_top5"] <= 100
        assert record["epoch_seconds"] > 0
    seconds = [0.0, *(r["seconds"] for r in epochs)]
    assert seconds == sorted(set(seconds))
    assert seconds[-1] < sum(r["epoch_seconds"] for r in epochs)  # evaluation is not counted
    assert epochs == whole.epochs
    assert whole.best == max(r["val_top1"] for r in epochs)


@pytest.mark.heavy
def test_the_loss_falls_on_images_that_are_learnt_by_heart(tmp_path):
    recipe = tiny_recipe(run__epochs=15, optimizer__lr=1e-2, **PLAIN)
    result = tiny_train(tmp_path / "run", recipe, train_source=Some("train", 16))
    losses = [r["train_loss"] for r in result.epochs]
    assert losses[-1] < 0.5 * losses[0]


def test_the_best_model_is_whole_by_itself(whole):
    model = cyclemlp.load_model(whole.output)
    assert model.metadata.classes == [str(i) for i in range(10)]
    assert model.metadata.preprocessing == Preprocessing(
        input_size=16, crop_pct=1.0, mean=(0.5,), std=(0.5,), interpolation="bicubic"
    )
    _, val_loader = trainer.build_loaders(
        tiny_recipe(), model.metadata.preprocessing, Some("val", 20), Some("val", 20)
    )
    result = evaluate(as_callable(model), val_loader, progress=False)
    assert result.top1 == whole.best
    assert result.loss == pytest.approx(whole.epochs[whole.best_epoch - 1]["val_loss"], rel=1e-6)


@pytest.mark.heavy
def test_one_seed_one_result_and_another_seed_another(whole, tmp_path):
    again = tiny_train(tmp_path / "again", workers=2)  # worker processes change nothing
    assert same_weights(
        again.output / "checkpoints/checkpoint_0003", whole.output / "checkpoints/checkpoint_0003"
    )
    other = tiny_train(tmp_path / "other", tiny_recipe(run__seed=1))
    assert not same_weights(
        other.output / "checkpoints/checkpoint_0003", whole.output / "checkpoints/checkpoint_0003"
    )


def interrupt(number=signal.SIGINT):
    os.kill(os.getpid(), number)


# 32 images are read an epoch, 8 a step: the 44th is read for the second step of the second epoch.
@pytest.mark.parametrize(
    ("sources", "checkpoint", "number"),
    [
        ({"train_source": Some("train", 34, {44: interrupt})}, "checkpoint_0001_step000002", signal.SIGINT),
        (
            {"train_source": Some("train", 34, {9: lambda: interrupt(signal.SIGTERM)})},
            "checkpoint_0000_step000002",
            signal.SIGTERM,
        ),
        ({"train_source": Some("train", 34, {31: interrupt})}, "checkpoint_0000_step000004", signal.SIGINT),
        # 20 images are evaluated twice an epoch, with the weights and with their average.
        ({"val_source": Some("val", 20, {45: interrupt})}, "checkpoint_0001_step000004", signal.SIGINT),
        ({"val_source": Some("val", 20, {25: interrupt})}, "checkpoint_0000_step000004", signal.SIGINT),
    ],
    ids=["in a step", "SIGTERM", "in the last step", "while evaluating", "while evaluating the average"],
)
def test_stopped_and_resumed_is_bit_identical(whole, tmp_path, sources, checkpoint, number, capsys):
    output = tmp_path / "run"
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingStoppedError) as stopped:
        tiny_train(output, **sources)
    assert stopped.value.checkpoint == output / "checkpoints" / checkpoint
    assert stopped.value.signal == number
    assert signal.getsignal(signal.SIGINT) is before
    assert cyclemlp.load_model(output).head.weight.shape  # it can be used
    assert not (output / ".lock").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed = tiny_train(output, resume="auto")
    assert f"resuming from {stopped.value.checkpoint}" in capsys.readouterr().out
    assert same_weights(output / "checkpoints/checkpoint_0003", whole.output / "checkpoints/checkpoint_0003")
    figures = [
        {k: r[k] for k in ("epoch", "train_loss", "val_loss", "val_top1", "ema_loss", "best")}
        for r in resumed.epochs
    ]
    assert figures == [{k: r[k] for k in figures[0]} for r in whole.epochs]
    for name in ("best.safetensors", "best_ema.safetensors"):
        assert (output / name).read_bytes() == (whole.output / name).read_bytes()


def test_stopped_and_resumed_with_muon_is_bit_identical(whole, tmp_path):
    recipe = tiny_recipe(optimizer__name="muon")
    with_muon = tiny_train(tmp_path / "whole", recipe=recipe)
    output = tmp_path / "run"
    with pytest.raises(TrainingStoppedError):
        tiny_train(output, recipe=recipe, train_source=Some("train", 34, {44: interrupt}))
    tiny_train(output, recipe=recipe, resume="auto")
    last = "checkpoints/checkpoint_0003"
    assert same_weights(output / last, with_muon.output / last)
    assert not same_weights(output / last, whole.output / last)


def test_going_on_in_the_middle_of_an_epoch_takes_steps_of_the_same_size(tmp_path):
    with pytest.raises(TrainingStoppedError) as stopped:
        tiny_train(tmp_path / "run", train_source=Some("train", 34, {44: interrupt}))
    checkpoint = stopped.value.checkpoint
    with pytest.raises(ConfigError, match="after 2 steps of 8 images; a step of this run has 16"):
        tiny_train(tmp_path / "other", tiny_recipe(data__batch_size=16), resume=checkpoint)
    assert not (tmp_path / "other").exists()


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    source = Some("train", 34, {44: interrupt, 45: interrupt})
    with pytest.raises(KeyboardInterrupt):
        tiny_train(tmp_path / "run", train_source=source)
    assert [
        p.name
        for p in trainer.RunFolder(tmp_path / "run", resume="auto").path.glob("checkpoints/checkpoint_*")
    ] == ["checkpoint_0001"]


def test_a_truncated_checkpoint_is_passed_over_loudly(whole, tmp_path):
    output = tmp_path / "run"
    source = Some("train", 34, {70: interrupt})  # in the third epoch
    with pytest.raises(TrainingStoppedError):
        tiny_train(output, train_source=source)
    assert sorted(p.name for p in output.glob("checkpoints/checkpoint_*")) == [
        "checkpoint_0002",
        "checkpoint_0002_step000001",
    ]
    broken = output / "checkpoints/checkpoint_0002_step000001" / "optimizer.safetensors"
    broken.write_bytes(broken.read_bytes()[:1000])
    with pytest.warns(
        UserWarning, match=r"optimizer.safetensors was truncated.*trying the checkpoint before it"
    ):
        tiny_train(output, resume=str(output))
    assert same_weights(output / "checkpoints/checkpoint_0003", whole.output / "checkpoints/checkpoint_0003")


def test_resuming_a_finished_run_with_more_epochs_says_what_changed(tmp_path, capsys):
    output = tmp_path / "run"
    tiny_train(output, tiny_recipe(run__epochs=1))
    capsys.readouterr()
    with pytest.warns(UserWarning, match=r"the recipe differs .*: run.epochs 1 → 2"):
        result = tiny_train(output, tiny_recipe(run__epochs=2), resume="auto")
    assert [r["epoch"] for r in result.epochs] == [1, 2]
    assert "the schedule of 1 epoch is now one of 2: the learning rate goes on at" in capsys.readouterr().out


def test_a_run_may_branch_off_another(whole, tmp_path):
    result = tiny_train(tmp_path / "branch", resume=whole.output / "checkpoints/checkpoint_0002")
    assert same_weights(
        result.output / "checkpoints/checkpoint_0003", whole.output / "checkpoints/checkpoint_0003"
    )
    assert [r["epoch"] for r in result.epochs] == [3]
    assert result.best_epoch == 3
    assert (result.output / "best.safetensors").exists()


def test_a_loss_that_is_no_number_stops_and_names_the_step(tmp_path):
    with pytest.raises(TrainingFailedError) as failed:
        tiny_train(tmp_path / "run", tiny_recipe(optimizer__lr=1e30, schedule__warmup_epochs=0))
    message = str(failed.value)
    assert "epoch 1, step 2 of 4" in message
    assert "learning rate 9.83e+29" in message
    assert "digits/" in message
    assert "checkpoint_0000_step000001" in message


@pytest.mark.heavy
def test_the_weights_before_a_bad_loss_are_kept_and_lead_to_the_very_end(whole, tmp_path, monkeypatch):
    plain, steps = Stepper.backward, iter(range(99))

    def backward(stepper, *batch):
        loss = plain(stepper, *batch)
        return loss * math.nan if next(steps) == 6 else loss

    monkeypatch.setattr(Stepper, "backward", backward)
    output, recipe = tmp_path / "run", tiny_recipe(run__keep_checkpoints=1)
    with pytest.raises(
        TrainingFailedError, match=r"the loss is nan at epoch 2, step 3 of 4.*begins with digits/"
    ):
        tiny_train(output, recipe)
    monkeypatch.undo()
    # Beside the earlier one, which a user may rather go on from.
    found = sorted(p.name for p in output.glob("checkpoints/checkpoint_*"))
    assert found == ["checkpoint_0001", "checkpoint_0001_step000002"]
    tiny_train(output, recipe, resume="auto")
    assert same_weights(output / "checkpoints/checkpoint_0003", whole.output / "checkpoints/checkpoint_0003")


@pytest.mark.parametrize(("before", "after"), [(1, 0), pytest.param(0, 2, marks=pytest.mark.heavy)])
def test_a_resumed_run_may_freeze_other_stages(tmp_path, before, after):
    tiny_train(tmp_path / "run", tiny_recipe(run__epochs=1, model__freeze_stages=before))
    start = cyclemlp.load_model(tmp_path / "run" / "checkpoints/checkpoint_0001").state_dict()
    with pytest.warns(UserWarning, match=f"model.freeze_stages {before} → {after}"):
        tiny_train(tmp_path / "run", tiny_recipe(run__epochs=2, model__freeze_stages=after), resume="auto")
    end = cyclemlp.load_model(tmp_path / "run" / "checkpoints/checkpoint_0002").state_dict()
    name = "network.0.0.mlp.fc1.weight"
    assert np.array_equal(start[name].numpy(), end[name].numpy()) == (after > 0)


def weights_of(output, epoch):
    return cyclemlp.load_model(output / f"checkpoints/checkpoint_{epoch:04d}").state_dict()


@pytest.mark.parametrize(
    ("frozen", "epochs", "moves"),
    [
        (2, [1, 2], {"network.2": [False, True, True], "network.0": [False, False, True]}),
        (4, 2, {"network.6": [False, False, True], "patch_embed": [False, False, True]}),
        (2, [1], {"network.2": [False, True, True], "network.0": [False, False, False]}),
    ],
)
def test_stages_are_unfrozen_epoch_by_epoch_and_a_resumed_run_has_the_same_bits(
    tmp_path, frozen, epochs, moves
):
    recipe = tiny_recipe(model__freeze_stages=frozen, model__unfreeze_epochs=epochs, run__keep_checkpoints=9)
    whole, said = tmp_path / "whole", []
    tiny_train(whole, recipe, say=said.append)
    paddle.seed(recipe.run.seed)
    start = cyclemlp.create_model(
        "cyclemlp_nano", **recipe.model.overrides, num_classes=10, drop_path_rate=0.2
    ).state_dict()
    weights = [start, *(weights_of(whole, epoch) for epoch in (1, 2, 3))]
    for layer, expected in moves.items():
        names = [name for name in start if name.startswith(layer) and start[name].ndim > 1]
        for before, after, moved in zip(weights, weights[1:], expected, strict=False):
            for name in names:
                assert np.array_equal(before[name].numpy(), after[name].numpy()) != moved, (name, moved)
    assert "frozen at first" in said[0]
    assert "no stage is frozen" in "\n".join(said) or epochs == [1]
    for steps in (4, 6, 9):  # after an epoch, and within two others
        output = tmp_path / f"stopped{steps}"
        stopped = Some("train", 34, {steps * 8 - 1: interrupt})
        with pytest.raises(TrainingStoppedError):
            tiny_train(output, recipe, train_source=stopped)
        tiny_train(output, recipe, resume="auto")
        assert same_weights(output / "checkpoints/checkpoint_0003", whole / "checkpoints/checkpoint_0003")


def test_a_run_that_is_done_does_not_go_on_into_an_empty_folder(tmp_path):
    recipe = tiny_recipe(run__epochs=1)
    tiny_train(tmp_path / "run", recipe)
    with pytest.raises(
        ConfigError, match=r"has 1 of 1 epoch, so nothing is left to train; .*other would hold no"
    ):
        tiny_train(tmp_path / "other", recipe, resume=str(tmp_path / "run"))
    said = []
    tiny_train(tmp_path / "run", recipe, resume="auto", say=said.append)
    assert "nothing is left to do of 1 epoch" in "\n".join(said)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            {"freeze_stages": 4},
            ["random weights: the frozen stages do not learn at all"],
        ),
        (
            {"freeze_stages": 4, "unfreeze_epochs": 1},
            ["random weights: the frozen stages do not learn before"],
        ),
        ({"freeze_stages": 4, "unfreeze_epochs": 1, "weights": "run"}, []),
        (
            {"freeze_stages": 4, "unfreeze_epochs": 2, "weights": "run"},
            ["(--unfreeze), and the run has 2 epochs"],
        ),
        ({"freeze_stages": 4, "unfreeze_epochs": [1, 3], "weights": "run"}, ["after 3 epochs stays frozen"]),
    ],
)
def test_freezing_that_has_no_effect_is_warned_about(tmp_path, model, says):
    if "weights" in model:
        tiny_train(tmp_path / "first", tiny_recipe(run__epochs=1))
        model = {**model, "weights": str(tmp_path / "first")}
    recipe = tiny_recipe(run__epochs=2, **{f"model__{key}": value for key, value in model.items()})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tiny_train(tmp_path / "run", recipe)
    found = [str(one.message) for one in caught if "freeze" in str(one.message)]
    assert len(found) == len(says)
    assert all(text in one for text, one in zip(says, found, strict=True))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"unfreeze_epochs": 1}, "model.freeze_stages is 0, so there is nothing to unfreeze"),
        (
            {"freeze_stages": 2, "unfreeze_epochs": [1, 2, 3]},
            r"with model.freeze_stages 2 give at most so many",
        ),
        ({"freeze_stages": 2, "unfreeze_epochs": [2, 1]}, "not falling"),
        ({"freeze_stages": 2, "unfreeze_epochs": 0}, "unfreeze_epochs is 0; expected a whole number from 1"),
    ],
)
def test_unfreezing_that_cannot_be_is_refused(model, says):
    with pytest.raises(ConfigError, match=says):
        Recipe.from_dict({"model": model})


def test_without_validation_images_the_last_model_is_the_best(tmp_path):
    train_source = Some("train", 34)
    result = trainer.train(
        tiny_recipe(run__epochs=2), train_source, None, tmp_path / "run", show_progress=False
    )
    assert result.best is None
    assert result.best_epoch == 2
    best, last = (
        cyclemlp.load_model(tmp_path / "run" / name).state_dict()
        for name in ("best.safetensors", "checkpoints/checkpoint_0002")
    )
    for name in last:
        np.testing.assert_array_equal(best[name].numpy(), last[name].numpy())


def test_checkpoints_every_few_epochs_and_after_the_last(tmp_path):
    tiny_train(
        tmp_path / "run", tiny_recipe(run__epochs=5, run__checkpoint_epochs=2, run__keep_checkpoints=9)
    )
    assert sorted(p.name for p in (tmp_path / "run").glob("checkpoints/checkpoint_*")) == [
        "checkpoint_0002",
        "checkpoint_0004",
        "checkpoint_0005",
    ]


def test_fine_tuning_starts_from_the_weights_and_their_preprocessing(whole, tmp_path, capsys):
    start = str(whole.output)
    recipe = tiny_recipe(model__weights=start, optimizer__lr=1e-12, schedule__warmup_epochs=0, run__epochs=1)
    recipe = recipe.updated({"data.preprocessing": {}})
    tuned = cyclemlp.load_model(tiny_train(tmp_path / "run", recipe).output)
    assert tuned.metadata.preprocessing.input_size == 16
    before = cyclemlp.load_model(whole.output).state_dict()
    for name, tensor in tuned.state_dict().items():
        np.testing.assert_allclose(tensor.numpy(), before[name].numpy(), atol=1e-6, err_msg=name)

    three = Some("train", 34)
    three.classes, three.num_classes = [*"0123456789", "ten"], 11
    tiny_train(tmp_path / "other", recipe, train_source=three, val_source=three)
    assert "head.weight" in capsys.readouterr().out  # it is said that the head starts anew


def test_sources_that_disagree_are_refused(tmp_path):
    other = Some("val", 20)
    other.classes = list("abcdefghij")
    with pytest.raises(DataError, match="10 of 10 classes are none that the training set knows: a, b, c"):
        tiny_train(tmp_path / "run", val_source=other)
    with pytest.raises(
        DataError, match="training images: 10 of 10 classes are none that the class list knows"
    ):
        tiny_train(tmp_path / "run", classes=["cat", "dog"])
    unlabelled = Some("train", 20)
    unlabelled.classes = unlabelled.num_classes = None
    with pytest.raises(DataError, match="no labels"):
        tiny_train(tmp_path / "run", train_source=unlabelled)


def test_channels_of_model_and_preprocessing_must_agree(tmp_path):
    with pytest.raises(ConfigError, match=r"3 channels .* the model takes 1"):
        tiny_train(tmp_path / "run", tiny_recipe(data__preprocessing={"mean": [0.5] * 3, "std": [0.5] * 3}))
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_the_loss_does_not_depend_on_when_it_is_read(whole, tmp_path):
    every = tiny_train(tmp_path / "run", tiny_recipe(run__log_steps=1))
    assert [r["train_loss"] for r in every.epochs] == [r["train_loss"] for r in whole.epochs]
    assert same_weights(
        every.output / "checkpoints/checkpoint_0003", whole.output / "checkpoints/checkpoint_0003"
    )


def test_a_run_records_its_decoder_and_goes_on_with_no_other(whole):
    assert Recipe.load(whole.output / "recipe.yaml").data.decoder == "fast"  # the extra `test` has it
    code = (
        "import sys; sys.modules['cykooz_resizer'] = None; from cyclemlp.cli.main import main; "
        f"sys.exit(main(['train', '--resume', {str(whole.output)!r}, '--data', 'digits']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "data.decoder is fast, whose libraries are not installed" in done.stderr
    assert "--set data.decoder=pillow" in done.stderr


def test_after_an_image_that_cannot_be_read_a_run_goes_on_to_the_same_end(whole, tmp_path):
    def broken():
        raise DataError("x.png: broken")

    # While the seventh step's images are read, after two steps of the second epoch.
    with pytest.raises(DataError, match=r"broken; what was trained is kept in .*checkpoint_0001_step000002"):
        tiny_train(tmp_path / "run", train_source=Some("train", 34, {50: broken}))
    again = tiny_train(tmp_path / "run", resume="auto")
    assert [r["train_loss"] for r in again.epochs] == [r["train_loss"] for r in whole.epochs]
    last = "checkpoints/checkpoint_0003"
    assert same_weights(again.output / last, whole.output / last)
