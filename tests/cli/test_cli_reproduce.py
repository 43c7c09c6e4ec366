"""ImageNet from end to end on a stand-in laid out exactly as it is: eval, train, predict, lists, reproduce."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import imagenet_fixtures as stand_in
import numpy as np
import pytest
from imagenet_fixtures import TOP1, TOP5

import cyclemlp
from cyclemlp.cli.main import main

FORMS = ("tar", "folders", "list", "flat")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The four forms; nano.safetensors, and weights/ with CycleMLP_B1, which know the validation images."""
    folder = tmp_path_factory.mktemp("reproduce")
    stand_in.build(folder)
    stand_in.write_knowing_model("cyclemlp_nano", folder / "nano.safetensors")
    (folder / "weights").mkdir()
    stand_in.write_knowing_model("cyclemlp_b1", folder / "b1.pdparams")
    shutil.copy(folder / "b1.pdparams", folder / "weights/paddle_CycleMLP_B1.pdparams")
    return folder


@pytest.fixture(autouse=True)
def _cache(place, monkeypatch):
    monkeypatch.setenv("CYCLEMLP_HOME", str(place / "cache"))


@pytest.fixture
def run(capsys):
    def run(*words):
        code = main(list(map(str, words)))
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def relabelled(place, tmp_path):
    """The raw form with the validation labels moved on by one image."""
    folder = tmp_path / "relabelled"
    folder.mkdir()
    (folder / "ILSVRC2012_img_val.tar").symlink_to(place / "tar/ILSVRC2012_img_val.tar")
    stand_in.write_files(folder, stand_in.devkit_files(stand_in.VALIDATION[1:] + stand_in.VALIDATION[:1]))
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_eval_of_a_model_of_known_accuracy_gives_it_in_every_form(run, place, form):
    code, out, err = run("eval", place / "nano.safetensors", "--data", place / form, "--json")
    found = json.loads(out)
    assert (code, found["images"], found["classes"]) == (0, 12, 1000), err
    assert (found["top1"], found["top5"]) == (TOP1, TOP5)


def test_eval_and_predict_take_a_tar_itself(run, place, tmp_path):
    tar = place / "tar/ILSVRC2012_img_val.tar"
    code, out, _ = run("eval", place / "nano.safetensors", "--data", tar, "--json")
    assert (code, json.loads(out)["top1"]) == (0, TOP1)
    code, out, _ = run("predict", place / "nano.safetensors", "--data", tar, "--json")
    predictions = json.loads(out)["predictions"]
    right = [p["label"]["index"] == p["classes"][0]["index"] for p in predictions]
    assert (code, 100 * np.mean(right)) == (0, TOP1)
    code, out, _ = run("predict", place / "nano.safetensors", tar, "--json")
    alone = json.loads(out)["predictions"]
    assert [p["classes"] for p in alone] == [p["classes"] for p in predictions]
    assert "label" not in alone[0]
    code, _, err = run("predict", place / "nano.safetensors", tar, place / "flat/val")
    assert code == 2
    assert "name it alone" in err


def test_permuted_labels_do_not_give_it(run, place, relabelled):
    code, out, _ = run("eval", place / "nano.safetensors", "--data", relabelled, "--json")
    assert code == 0
    assert json.loads(out)["top1"] == 0
    (relabelled / "ILSVRC2012_devkit_t12/data/meta.mat").unlink()
    (relabelled / "ILSVRC2012_img_val.tar").unlink()  # a link: beside what it leads to there is another
    shutil.copy(place / "tar/ILSVRC2012_img_val.tar", relabelled)
    code, _, err = run("eval", place / "nano.safetensors", "--data", relabelled, "--json")
    assert code == 2
    assert "numbers are the devkit's own" in err


@pytest.mark.heavy
def test_training_reads_the_tar_of_tars(run, place, tmp_path):
    code, out, err = run(
        *("train", "--model", "cyclemlp_nano", "--data", place / "tar", "--val-data", place / "tar"),
        *("--epochs", 1, "--batch-size", 500, "--output", tmp_path, "--no-progress", "--json"),
        *("--amp", "none", "--workers", 0),
    )
    assert code == 0, err
    (epoch,) = json.loads(out)["epochs"]
    assert epoch["train_loss"] == pytest.approx(np.log(1000), rel=0.05)
    assert cyclemlp.load_model(tmp_path).metadata.classes == stand_in.IDS


@pytest.mark.parametrize("form", FORMS)
def test_lists_are_written_from_every_form_and_read_again(run, place, tmp_path, form):
    code, out, err = run("data", "imagenet", "--imagenet", place / form, "--output", tmp_path / "lists")
    assert code == 0, err
    data = place / "tar/ILSVRC2012_img_val.tar" if form == "tar" else place / form
    assert f"--val-data {data} --val-list {tmp_path / 'lists/val_list.txt'}" in out
    assert "val    " in out
    assert ("12 validation images are those of the devkit's" in out) == (form in ("tar", "flat"))
    listed = (tmp_path / "lists/val_list.txt").read_text().splitlines()
    assert {Path(line.split()[0]).name: int(line.split()[1]) for line in listed} == {
        stand_in.validation_name(n): label for n, label in enumerate(stand_in.VALIDATION, 1)
    }
    if form != "flat":
        assert len((tmp_path / "lists/train_list.txt").read_text().splitlines()) == 1000
    assert (tmp_path / "lists/map_to_1000.txt").read_text().splitlines()[999] == f"{stand_in.IDS[999]} 999"
    again = ("--data", data, "--list", tmp_path / "lists/val_list.txt")
    code, out, err = run("eval", place / "nano.safetensors", *again, "--json")
    assert (code, json.loads(out)["top1"]) == (0, TOP1), err
    code, _, err = run("data", "imagenet", "--imagenet", place / form, "--output", tmp_path / "lists")
    assert code == 2
    assert "is there already" in err


def test_lists_of_images_that_are_not_there(run, place, tmp_path):
    (tmp_path / "val_list.txt").write_text("val/ILSVRC2012_val_00000001.JPEG 417\n")
    code, _, err = run("data", "imagenet", "--imagenet", tmp_path, "--output", tmp_path / "lists")
    assert code == 2
    assert "val_list.txt:1: the image" in err
    code, _, err = run("data", "imagenet", "--imagenet", tmp_path / "nowhere", "--output", tmp_path / "lists")
    assert code == 2
    assert "there is no such folder" in err


# ---- reproduce


def reproduce(run, place, output, form="tar", *more):
    words = ("--weights", place / "weights", "--imagenet", place / form, "--output", output)
    return run("reproduce", *words, "--batch-size", 5, *more)


def test_reproduce_measures_compares_and_knows_what_it_measured(run, place, tmp_path):
    code, out, err = reproduce(run, place, tmp_path)
    assert code == 0, err
    report = json.loads((tmp_path / "reproduce.json").read_text())
    (row,) = report["rows"]
    assert (row["measured"]["top1"], row["measured"]["top5"]) == (TOP1, TOP5)
    assert row["reproduced"] == {"top1": 78.794, "top5": 94.546, "loss": 0.9331}
    assert row["minus_reproduced"]["top1"] == pytest.approx(TOP1 - 78.794)
    assert row["minus_paper"] == {"top1": pytest.approx(TOP1 - 78.9), "top5": None, "loss": None}
    assert "| cyclemlp_b1 | paddle_CycleMLP_B1.pdparams | network | 75.000 | 91.667 |" in (
        text := (tmp_path / "reproduce.md").read_text()
    )
    assert "| 78.794 | 94.546 | 0.9331 | -3.794 | -2.879 |" in text
    assert "shorter side 256, bicubic, centre 224" in text
    assert "NOT the 50,000" in text
    words = [line.split() for line in out.splitlines()]
    assert ["top-5", "91.667", "94.546", "-2.879", "–", "–"] in words
    assert [
        "cyclemlp_b1",
        row["weights"],
        "network",
        *["top-1", "75.000", "78.794", "-3.794", "78.900", "-3.900"],
    ] in words

    log = tmp_path / "images/paddle_CycleMLP_B1.pdparams.network.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    assert [json.loads(line)["first"] for line in lines[1:]] == [0, 5, 10]
    before = log.stat().st_mtime_ns
    code, _, err = reproduce(run, place, tmp_path)
    assert (code, log.stat().st_mtime_ns) == (0, before), "it was measured again"
    assert "paddle_CycleMLP_B1.pdparams: known" in err

    log.write_text(lines[0] + lines[1] + lines[2][:30])  # stopped while it wrote
    code, _, err = reproduce(run, place, tmp_path)
    assert "goes on after 5 of 12" in err
    assert log.read_text().splitlines(keepends=True) == lines
    assert json.loads((tmp_path / "reproduce.json").read_text())["rows"] == report["rows"]


@pytest.mark.heavy
def test_reproduce_measures_anew_what_changed(run, place, relabelled, tmp_path):
    code, _, err = run(
        *("reproduce", "--weights", place / "weights", "--imagenet", relabelled, "--output", tmp_path)
    )
    assert code == 0, err
    (row,) = json.loads((tmp_path / "reproduce.json").read_text())["rows"]
    assert row["measured"]["top1"] == 0
    code, _, err = reproduce(run, place, tmp_path)
    assert "measured anew, for its data_sha256 changed" in err
    (row,) = json.loads((tmp_path / "reproduce.json").read_text())["rows"]
    assert row["measured"]["top1"] == TOP1


def test_reproduce_names_what_it_cannot_use_and_measures_the_rest(run, place, tmp_path):
    weights = tmp_path / "weights"
    weights.mkdir()
    words = ("reproduce", "--weights", weights, "--imagenet", place / "tar", "--output", tmp_path / "out")
    code, _, err = run(*words)
    assert code == 2
    assert "holds no weights of B1 to B5; expected names such as CycleMLP_B1.pth" in err
    (weights / "CycleMLP_B2.pth").write_bytes(b"<html>not found</html>")
    code, _, err = run(*words, "--models", "cyclemlp_b1")
    assert code == 2
    assert "holds no weights of it, only of cyclemlp_b2" in err
    code, _, err = run(*words, "--models", "cyclemlp_nano")
    assert code == 2
    assert "figures are published of" in err
    small = cyclemlp.create_model("cyclemlp_b1", num_classes=3)
    cyclemlp.save_model(small, weights / "cyclemlp_b1.safetensors")
    code, _, err = run(*words)
    assert code == 2
    assert "CycleMLP_B2.pth" in err
    assert "it has 3 classes, and ImageNet has 1000" in err


@pytest.mark.heavy
def test_reproduce_in_other_runtimes_and_after_being_killed(run, place, tmp_path):
    """B1 in each runtime gives the same figures; a process that is killed in the middle leaves what it had."""
    more = ("--runtime", "network", "onnxruntime", "openvino", "paddle")
    words = [sys.executable, "-m", "cyclemlp", "reproduce", "--weights", place / "weights"]
    words += ["--imagenet", place / "folders", "--output", tmp_path, "--batch-size", 1]
    process = subprocess.Popen(list(map(str, words)), stderr=subprocess.DEVNULL)
    log = tmp_path / "images/paddle_CycleMLP_B1.pdparams.network.jsonl"
    while process.poll() is None and not (log.exists() and len(log.read_text().splitlines()) > 3):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = log.read_text().splitlines()
    assert 3 < len(kept) < 14, "it ended before it could be killed"
    code, out, err = reproduce(run, place, tmp_path, "folders", *more, "--json")
    assert code == 0, err
    assert "goes on after" in err
    assert log.read_text().splitlines()[: len(kept) - 1] == kept[:-1]
    rows = json.loads(out)["rows"]
    assert [row["runtime"] for row in rows] == ["network", "onnxruntime", "openvino", "paddle"]
    for row in rows:
        assert (row["measured"]["top1"], row["measured"]["top5"]) == (TOP1, TOP5)
        assert row["measured"]["loss"] == pytest.approx(rows[0]["measured"]["loss"], rel=1e-3)
