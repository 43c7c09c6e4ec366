"""What `--resume` means, and which weights a path means: the same for every task."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyclemlp.errors import ConfigError, DataError, WeightsError
from cyclemlp.run import (
    find_checkpoint,
    find_weights,
    places_of_resume,
    require_same_classes,
    run_folder,
    write_checkpoint,
)


def make_run(path: Path, *names: str, model: str = "model.safetensors") -> Path:
    for name in names:
        write_checkpoint(path, name, lambda folder: (folder / model).write_bytes(b"x"), {}, keep=9)
    (path / "recipe.yaml").write_text("")
    return path


def test_the_three_ways_to_resume(tmp_path):
    run = make_run(tmp_path / "run", "checkpoint_0001", "checkpoint_0002")
    assert find_checkpoint(None, run) is None
    for resume in ("auto", run, str(run)):
        assert find_checkpoint(resume, run) == run / "checkpoints/checkpoint_0002"
    one = run / "checkpoints/checkpoint_0001"
    assert find_checkpoint(one, tmp_path / "other") == one
    assert find_checkpoint("auto", tmp_path / "absent") is None


def test_nothing_to_resume_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"--resume .*absent: there is no such folder"):
        find_checkpoint(tmp_path / "absent", tmp_path)
    with pytest.raises(ConfigError, match="it holds no whole checkpoint"):
        find_checkpoint(tmp_path, tmp_path)
    run = make_run(tmp_path / "run", "checkpoint_0001")
    (run / "checkpoints/checkpoint_0001/state.json").unlink()
    # Not begun anew without a word: the best model would be lost.
    with (
        pytest.warns(UserWarning, match="trying the checkpoint before it"),
        pytest.raises(ConfigError, match=r"no checkpoint in .* is whole; --force"),
    ):
        find_checkpoint("auto", run)


def test_where_a_resumed_run_reads_its_recipe_and_writes(tmp_path):
    run, other = make_run(tmp_path / "run", "checkpoint_0001"), tmp_path / "other"
    recipe, one = run / "recipe.yaml", str(run / "checkpoints/checkpoint_0001")
    assert places_of_resume(None, None) == (None, None)
    assert places_of_resume(None, run) == (None, run)
    assert places_of_resume("auto", None) == (None, None)
    assert places_of_resume("auto", run) == (recipe, run)
    assert places_of_resume("auto", other) == (None, other)
    for resume in (str(run), one):
        assert places_of_resume(resume, None) == (recipe, run)
        assert places_of_resume(resume, other) == (recipe, other)


def test_the_run_that_a_path_belongs_to(tmp_path):
    run = make_run(tmp_path / "run", "checkpoint_0001")
    one = run / "checkpoints/checkpoint_0001"
    (run / "best.safetensors").write_bytes(b"x")
    for path in (run, one, one / "model.safetensors", run / "best.safetensors"):
        assert run_folder(path) == run
    assert run_folder(tmp_path / "copied/checkpoint_0001") == tmp_path / "copied"


@pytest.mark.parametrize("suffix", [".safetensors", ".pdparams"])
def test_the_weights_that_a_path_means(tmp_path, suffix):
    model = f"model{suffix}"
    run = make_run(tmp_path / "run", "checkpoint_0009", "checkpoint_0010", model=model)
    (run / "checkpoints/checkpoint_0011").mkdir()  # no model in it
    assert find_weights(run) == run / "checkpoints/checkpoint_0010" / model
    nine = run / "checkpoints/checkpoint_0009"
    assert find_weights(nine) == find_weights(nine / model) == nine / model
    (run / f"best{suffix}").write_bytes(b"x")
    assert find_weights(run) == run / f"best{suffix}"
    with pytest.raises(WeightsError, match="there is no such file or folder"):
        find_weights(tmp_path / "absent")
    with pytest.raises(WeightsError, match="is a folder without weights"):
        find_weights(tmp_path)


def test_other_classes_are_refused():
    here = Path("checkpoint_0001")
    require_same_classes(here, ["a", "b"], ["a", "b"], (2, 2))
    require_same_classes(here, None, ["a", "b"], (2, 2))
    for now, says in (
        (["a", "c"], "2 classes, and the images now have 2; they differ in 'b', 'c'"),
        (["b", "a"], "have 2 in another order"),
        (["a", "b", "c"], "have 3; they differ in 'c'"),
    ):
        with pytest.raises(DataError, match=says):
            require_same_classes(here, ["a", "b"], now, (2, len(now)))
    with pytest.raises(DataError, match="have 3\\. Go on with the same"):
        require_same_classes(here, None, None, (2, 3))
