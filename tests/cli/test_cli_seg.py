"""`cyclemlp seg` from end to end: check, train, resume, eval, predict, on a few tiny images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from lock_fixtures import holder
from PIL import Image
from seg_fixtures import CLASSES, config_values, write_config, write_data

from cyclemlp.cli.main import main
from cyclemlp.report import class_colour

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: object) -> tuple[int, str, str]:
        code = main(["seg", *map(str, words)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seg")
    return write_config(folder / "tiny.yaml", config_values(write_data(folder / "data")))


@pytest.fixture(scope="module")
def trained(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder, after two steps."""
    output = tmp_path_factory.mktemp("runs") / "tiny"
    words = ["--iters", "2", "--save-interval", "2", "--log-iters", "1", "--no-progress"]
    assert main(["seg", "train", "--config", str(config), "--output", str(output), *words]) == 0
    return output


def test_train_says_what_it_does(run: Run, config: Path, tmp_path: Path) -> None:
    words = ["--iters", 1, "--batch-size", 2, "--lr", 0.003, "--seed", 7, "--set", "run.log_iters=1"]
    code, out, _ = run("train", "--config", config, "--output", tmp_path / "run", *words, "--no-progress")
    assert code == 0
    assert "backbone cyclemlp_nano: no `pretrained` given, starts from random weights" in out
    assert "PaddleSeg with 7 compatibility patches: paddleseg.core.train.loss_computation, " in out
    assert "4 images to train on, 4 to evaluate on; 1 step of 2" in out
    assert "best mean IoU" in out
    written = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())
    assert (written["iters"], written["batch_size"], written["lr_scheduler"]["learning_rate"]) == (
        1,
        2,
        0.003,
    )
    assert (written["run"]["seed"], written["run"]["log_iters"]) == (7, 1)
    records = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [r["event"] for r in records] == ["start", "step", "evaluation", "end"]
    assert records[0]["command"].startswith(f"cyclemlp seg train --config {config} --iters 1")


def test_resume_goes_on_by_the_run_s_own_configuration(run: Run, trained: Path) -> None:
    code, out, err = run("train", "--resume", trained, "--iters", 3, "--json", "--no-progress")
    assert code == 0
    result = json.loads(out)  # nothing else on stdout
    assert (result["step"], result["reason"], result["output"]) == (3, "finished", str(trained))
    assert f"resuming from {trained / 'checkpoints/checkpoint_000002'}: 2 steps done" in err
    assert "warning: the recipe differs from that of the run being resumed: iters 2 → 3" in err
    code, out, _ = run("train", "--resume", trained, "--iters", 3, "--no-progress")
    assert code == 0
    assert "nothing is left to do" in out


def test_class_weights(run: Run, config: Path, tmp_path: Path) -> None:
    words = ["train", "--config", config, "--iters", 1, "--no-eval", "--no-progress"]
    code, out, _ = run(*words, "--class-weights", "balanced", "--output", tmp_path / "a")
    assert code == 0
    assert (
        "class weights, balanced by the pixels of 4 training masks: background 0.462, square 3.09, bar 1.96"
        in out
    )
    code, _, _ = run(*words, "--class-weights", "0.3,1,2", "--output", tmp_path / "b")
    assert code == 0
    found = [
        yaml.safe_load((tmp_path / place / "recipe.yaml").read_text())["loss"]["types"] for place in "ab"
    ]
    assert [types[0]["weight"] for types in found] == [[0.461633, 3.09465, 1.95833], [0.3, 1, 2]]
    for more, says in (
        (["--class-weights", "1,2"], "has 2 numbers, and the model has 3 classes"),
        (["--class-weights", "even"], "--class-weights is 'even'; give balanced, or a number for each class"),
        (["--class-weights", "balanced", "--set", "loss.types.0.weight=[1,1,1]"], "both --class-weights and"),
    ):
        code, _, err = run(*words, *more, "--output", tmp_path / "c")
        assert (code, says in err) == (2, True)
    assert not (tmp_path / "c").exists()


def test_train_refuses(run: Run, config: Path, trained: Path, tmp_path: Path) -> None:
    code, _, err = run("train", "--config", config, "--output", trained)
    assert code == 2
    assert "is not empty. Choose another --output, go on with that run by --resume" in err
    assert run("train")[0] == 2
    code, _, err = run("train", "--config", config, "--set", "itres=3", "--output", tmp_path / "run")
    assert (code, "did you mean iters?" in err) == (2, True)
    with pytest.raises(SystemExit):
        run("train", "--config", config, "--max-minutes", 0)


def test_a_refused_run_leaves_nothing_and_loses_nothing(
    run: Run, config: Path, trained: Path, tmp_path: Path
) -> None:
    """Also with --force: the run that is there goes when the new one can begin, and no sooner."""
    data = write_data(tmp_path / "data")
    Image.fromarray(np.full((48, 64), 7, np.uint8)).save(data / "labels/2.png")
    bad = write_config(tmp_path / "bad.yaml", config_values(data))
    code, _, err = run("train", "--config", bad, "--output", tmp_path / "run")
    assert code == 2
    assert "`cyclemlp seg check` looks at all:\n  " in err
    assert err.count("\n") == 2  # a line for the mask
    assert not (tmp_path / "run").exists()
    shutil.copytree(trained, tmp_path / "old")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "old").rglob("*")}
    for words in (["--config", bad], ["--config", config, "--batch-size", 5]):
        assert run("train", *words, "--output", tmp_path / "old", "--force")[0] == 2
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "old").rglob("*")} == before


def test_a_run_that_diverges_exits_with_1(run: Run, config: Path, tmp_path: Path) -> None:
    words = ["--output", tmp_path / "run", "--lr", 1e30, "--no-eval", "--no-progress"]
    code, _, err = run("train", "--config", config, *words)
    assert code == 1
    assert "cyclemlp seg train: failed: step" in err


def test_eval_prints_a_table_and_json(run: Run, trained: Path, tmp_path: Path) -> None:
    code, out, _ = run("eval", trained, "--no-progress")
    assert code == 0
    for word in (*CLASSES, "IoU %", "mean IoU", "of 4 images; the whole image at once"):
        assert word in out
    words = ["--window", 48, "--stride", 16, 48, "--scales", 1, 0.75, "--flip"]
    words += ["--output", tmp_path / "figures"]
    code, out, err = run("eval", trained, "--json", "--no-progress", *words)
    assert code == 0
    figures = json.loads(out)
    assert figures == json.loads((tmp_path / "figures/eval.json").read_text())
    assert figures["weights"] == str(trained / "best.pdparams")
    assert figures["inference"] == "window 48×48, stride 16×48, scales 1, 0.75, mirrored too"
    assert figures["mean_iou"] == pytest.approx(np.mean([c["iou"] for c in figures["classes"]]))
    assert "tensors loaded from" in err


def test_predict_writes_masks_and_overlays(run: Run, trained: Path, config: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "a").mkdir(parents=True)
    draw = np.random.default_rng(1)
    for name, size in (("a/x.png", (50, 70, 3)), ("a/x.jpg", (33, 41, 3)), ("y.png", (64, 48, 3))):
        Image.fromarray(draw.integers(0, 255, size, dtype=np.uint8)).save(images / name)
    (images / "bad.png").write_text("no image")
    words = ["predict", trained, images, "--output", tmp_path / "out", "--no-progress"]
    code, _, err = run(*words)
    assert code == 2
    assert "bad.png' is not an image that can be read" in err
    assert "--skip-bad leaves out images" in err
    code, out, err = run(*words, "--skip-bad", "--json")
    assert code == 1
    assert "skipped" in err
    result = json.loads(out)
    assert result["classes"] == CLASSES
    found = {
        Path(entry["mask"]).relative_to(tmp_path / "out/masks"): entry for entry in result["predictions"]
    }
    assert set(map(str, found)) == {"a/x.png", "a/x.png.png", "y.png"}  # of x.jpg, x.png, y.png
    entry = found[Path("y.png")]
    with Image.open(entry["mask"]) as image:
        assert (image.mode, image.size) == ("P", (48, 64))
        assert tuple(image.getpalette()[3:6]) == class_colour(1)
        mask = np.asarray(image)
    assert entry["shares"] == {
        CLASSES[k]: pytest.approx(np.mean(mask == k)) for k in range(3) if (mask == k).any()
    }
    with Image.open(entry["overlay"]) as image:
        assert image.width > 48


def test_weights_outside_a_run_need_a_configuration(run: Run, trained: Path, tmp_path: Path) -> None:
    lone = tmp_path / "model.pdparams"
    lone.write_bytes((trained / "best.pdparams").read_bytes())
    code, _, err = run("eval", lone)
    assert code == 2
    assert "does not lie in a run's folder: give --config FILE too" in err
    code, out, _ = run("eval", lone, "--config", trained / "recipe.yaml", "--no-progress")
    assert (code, "mean IoU" in out) == (0, True)


def test_check_tells_good_from_bad(run: Run, config: Path, tmp_path: Path) -> None:
    code, out, _ = run("check", "--config", config, "--no-progress")
    assert code == 0
    assert "train_dataset" in out
    assert "4 good pairs, 64×48 to 64×48 pixels" in out
    assert "no errors: the data are as the configuration says" in out
    assert "background has 6.7 times as many pixels as square\n" in out
    data = write_data(tmp_path / "data")
    (data / "labels/2.png").unlink()
    code, out, _ = run("check", "--config", config, "--data", data, "--no-progress")
    assert code == 1
    assert f"error: {data}/train.txt:3: {data}/labels/2.png does not exist" in out
    assert "2 errors" in out
    code, out, _ = run("check", "--config", config, "--data", data, "--json", "--no-progress")
    assert code == 1
    report = json.loads(out)
    assert len(report["train_dataset"]["errors"]) == 1
    assert [c["name"] for c in report["val_dataset"]["classes"]] == CLASSES


@pytest.mark.heavy
def test_export(run: Run, trained: Path, config: Path, tmp_path: Path) -> None:
    source = many_classes(trained, tmp_path / "run")
    words = ["export", source, "--output", tmp_path / "exported", "--format", "paddle"]
    code, out, err = run(*words, "--json")
    assert code == 0
    assert json.loads(out)["difference"] < 1e-4
    assert "largest difference from PaddleSeg's own result" in err
    assert run(*words)[0] == 2
    # The exported model gives the masks of the run, and its figures.
    code, before, _ = run("eval", source, "--json", "--no-progress")
    words = ["eval", tmp_path / "exported", "--config", source / "recipe.yaml", "--json", "--no-progress"]
    code, after, _ = run(*words)
    assert code == 0
    assert json.loads(after)["mean_iou"] == pytest.approx(json.loads(before)["mean_iou"], abs=1e-3)
    for model, place in ((source, "a"), (tmp_path / "exported", "b")):
        words = ["predict", model, config.parent / "data/images", "--output", tmp_path / place]
        assert run(*words, "--no-progress")[0] == 0
    masks = [np.asarray(Image.open(tmp_path / place / "masks/1.png")) for place in "ab"]
    assert (masks[0] != masks[1]).mean() < 1e-3
    assert len(np.unique(masks[0])) == 3


def many_classes(trained: Path, folder: Path) -> Path:
    """A run whose model gives each class to a part of every image, which two steps of training do not reach."""
    import paddle

    from cyclemlp.dense.seg.config import open_config
    from cyclemlp.dense.seg.inference import trained_model

    folder.mkdir()
    shutil.copy(trained / "recipe.yaml", folder)
    model = trained_model(open_config(folder / "recipe.yaml"), trained, lambda text: None)
    noise = np.random.default_rng(0).standard_normal((1, 3, 64, 64), dtype=np.float32)
    with paddle.no_grad():
        logits = model(paddle.to_tensor(noise))[0]
    model.classify.bias.set_value(model.classify.bias - logits.mean(axis=[0, 2, 3]))
    paddle.save(model.state_dict(), str(folder / "best.pdparams"))
    return folder


def test_a_folder_that_is_trained_into_is_refused(run, config, tmp_path):
    first = holder(tmp_path)
    try:
        code, _, err = run("train", "--config", config, "--output", tmp_path, "--resume", "auto")
        assert code == 2
        assert f"in use by process {first.pid}" in err
    finally:
        first.kill()
        first.wait()
