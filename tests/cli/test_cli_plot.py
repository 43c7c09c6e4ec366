"""`cyclemlp plot`: what it draws and how it refuses."""

from __future__ import annotations

import json
import subprocess
import sys

from PIL import Image

from cyclemlp.cli.main import main


def write_run(folder, losses, *, ema=False, more=""):
    folder.mkdir(parents=True)
    lines = [{"event": "start"}]
    for i, loss in enumerate(losses, 1):
        record = {"event": "epoch", "epoch": i, "train_loss": loss, "val_top1": 10.0 * i, "lr": 0.1 / i}
        lines.append({**record, "ema_top1": 9.0 * i} if ema else record)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + more)
    return folder


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_one_run_is_drawn_in_its_folder(tmp_path, drawn, capsys):
    run = write_run(tmp_path / "digits", [3.0, 2.0])
    assert main(["plot", str(run)]) == 0
    assert Image.open(run / "curves.png").width > 500
    assert capsys.readouterr().out == f"written   {run / 'curves.png'}\n"
    assert drawn[0].get_suptitle() == "digits"


def test_several_runs_share_an_image(tmp_path, drawn, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = (
        write_run(tmp_path / "a", [3.0, 2.0]),
        write_run(tmp_path / "b", [5.0, 4.0, 1.0], ema=True),
    )
    assert main(["plot", str(first), str(second / "log.jsonl")]) == 0
    assert (tmp_path / "curves.png").exists()
    loss, accuracy, rate = drawn[0].axes
    assert [list(line.get_ydata()) for line in loss.lines] == [[3, 2], [5, 4, 1]]
    assert [list(line.get_ydata()) for line in accuracy.lines] == [[10, 20], [10, 20, 30], [9, 18, 27]]
    assert [list(line.get_ydata()) for line in rate.lines] == [[0.1, 0.05], [0.1, 0.05, 0.1 / 3]]
    assert [line.get_color() for line in loss.lines] == [rate.lines[0].get_color(), rate.lines[1].get_color()]
    assert loss.lines[0].get_color() != loss.lines[1].get_color()
    assert legend(drawn[0]) == ["a (best top-1 20.00 %, epoch 2)", "b (best top-1 30.00 %, epoch 3)"]


def test_an_epoch_that_was_run_twice_counts_once_and_a_half_line_not(tmp_path, drawn):
    again = json.dumps({"event": "epoch", "epoch": 2, "train_loss": 1.5}) + '\n{"event": "epo'
    run = write_run(tmp_path / "a", [3.0, 2.0], more=again)
    assert main(["plot", str(run), "--figure", str(tmp_path / "new" / "a.svg")]) == 0
    assert list(drawn[0].axes[0].lines[0].get_ydata()) == [3.0, 1.5]
    assert "<svg" in (tmp_path / "new" / "a.svg").read_text()


def test_runs_of_one_name_are_told_apart_by_the_folders_above(tmp_path, drawn):
    runs = [write_run(tmp_path / kind / "seed0", [1.0]) for kind in ("plain", "distilled")]
    assert main(["plot", *map(str, runs), "--figure", str(tmp_path / "c.png")]) == 0
    assert [name.split(" (")[0] for name in legend(drawn[0])] == ["plain/seed0", "distilled/seed0"]


def test_more_runs_than_colours_stay_apart(tmp_path, drawn):
    runs = [write_run(tmp_path / str(i), [1.0, 2.0]) for i in range(9)]
    assert main(["plot", *map(str, runs), "--figure", str(tmp_path / "c.png")]) == 0
    looks = {(line.get_color(), line.get_marker()) for line in drawn[0].axes[0].lines}
    assert len(looks) == 9


def test_what_is_no_run_is_said(tmp_path, capsys):
    run, empty, fresh = (
        write_run(tmp_path / "a", [1.0]),
        tmp_path / "empty",
        write_run(tmp_path / "fresh", []),
    )
    empty.mkdir()
    for words, message in (
        ([empty], f"{empty}: it holds no log.jsonl, so it is no run"),
        ([tmp_path / "none"], "there is no such folder"),
        ([run, fresh], f"{fresh / 'log.jsonl'}: no epoch, step or evaluation is logged yet"),
        ([run, tmp_path / "empty" / ".." / "a"], "is named twice"),
        ([run, "--figure", tmp_path / "a.doc"], "give one of .png, .svg, .pdf"),
    ):
        assert main(["plot", *map(str, words)]) == 2
        assert message in capsys.readouterr().err


def test_it_runs_without_paddle(tmp_path):
    run = write_run(tmp_path / "a", [1.0])
    code = "import sys; sys.modules['paddle'] = None; from cyclemlp.cli.main import main; sys.exit(main(sys.argv[1:]))"
    subprocess.run([sys.executable, "-c", code, "plot", str(run)], check=True, timeout=120)
    assert (run / "curves.png").exists()
