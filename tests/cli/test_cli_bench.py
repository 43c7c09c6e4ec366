"""`cyclemlp bench` from end to end, over the network as it is trained and one runtime."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys

import pytest
from PIL import Image

from cyclemlp.bench.cases import Case, Model, measure
from cyclemlp.bench.figure import plot_speed
from cyclemlp.cli.main import main
from cyclemlp.errors import ConfigError, DataError
from cyclemlp.network import count_macs
from cyclemlp.network.variants import VARIANTS
from cyclemlp.preprocessing import parse_size

COMMAND = [sys.executable, "-m", "cyclemlp", "bench"]


@pytest.fixture(scope="module")
def benched(tmp_path_factory):
    output = tmp_path_factory.mktemp("bench")
    words = "cyclemlp_nano --size 48x64 --batch 3 --runtime network onnxruntime --threads 1 --seconds 0.2"
    done = subprocess.run([*COMMAND, *words.split(), "--output", output], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output, done


def test_every_case_is_measured(benched):
    output, _ = benched
    facts = json.loads((output / "bench.json").read_text())
    assert facts["complete"] is True
    cases = facts["cases"]
    assert [(c["runtime"], c["batch"]) for c in cases] == [("network", 3), ("onnxruntime", 3)]
    cost = count_macs(VARIANTS["cyclemlp_nano"].config, 48, 64)
    peak = facts["matrix_product_peak_giga_macs_per_second"]
    for case in cases:
        assert case["size"] == "48×64"
        assert 0 < case["latency_p50_ms"] <= case["latency_p95_ms"]
        assert case["runs"] >= 5
        assert case["giga_macs"] == pytest.approx(cost / 1e9)
        assert case["share_of_peak_percent"] == pytest.approx(case["images_per_second"] * cost / peak / 1e7)
    memory = {case["runtime"]: case["peak_memory_mib"] for case in cases}
    assert memory["network"] > memory["onnxruntime"] > 20  # a process each: Paddle is in one of them only


def test_table_and_csv_say_the_same(benched):
    output, done = benched
    with (output / "bench.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = done.stdout.splitlines()
    assert lines[0].split("  ")[0] == "model"
    assert len(rows) == 2
    for row, line in zip(rows, lines[2:], strict=False):
        assert f"{float(row['images_per_second']):.4g}" in line
    assert "NumPy's product" in lines[-1]
    assert not (output / "bench.png").exists()
    assert "published accuracy" in done.stderr  # the nano has none, which is said


@pytest.mark.heavy
def test_ctrl_c_leaves_what_was_measured(tmp_path):
    words = "cyclemlp_nano --size 32 --batch 1 2 3 --runtime network --threads 1 --seconds 0.2"
    command = [*COMMAND, *words.split(), "--output", tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = []
        while "batch of 2, 2 of 3" not in (line := process.stderr.readline()):
            assert line, said
            said.append(line)
        process.send_signal(signal.SIGINT)
        shown, rest = process.communicate()
    assert process.returncode == 130
    assert rest == "cyclemlp bench: stopped\n"
    facts = json.loads((tmp_path / "bench.json").read_text())
    assert facts["complete"] is False
    (case,) = facts["cases"]
    assert f"{case['images_per_second']:.4g}" in shown
    assert (tmp_path / "bench.csv").read_text().count("\n") == 2


@pytest.mark.heavy
def test_a_mistake_in_the_last_model_costs_no_measurement(capfd):
    assert main(["bench", "cyclemlp_nano", "cyclemlp_nono", "--runtime", "network", "--size", "32"]) == 2
    said = capfd.readouterr().err
    assert "cyclemlp_nono" in said.splitlines()[-1]
    assert " 1 of " not in said


def test_what_does_not_go_together(capsys, tmp_path):
    assert main(["bench", "--seconds", "0"]) == 2
    assert "--seconds is 0" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="192x256"):
        parse_size("2 by 3")
    assert (parse_size("224"), parse_size("512x1024")) == (224, (512, 1024))


def test_a_case_that_fails_says_why(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    case = Case(str(tmp_path), "onnxruntime", "float32", 32, 32, 1, 1)
    model = Model("x", {}, None, 1, {"float32 onnx": str(tmp_path)})
    assert "cannot read it" in measure(case, model, 0.1)["error"]
    assert "export it again" in measure(case, Model("x", {}, None, 1, {}), 0.1)["error"]


def test_the_plot(tmp_path):
    records = [
        {
            "name": f"cyclemlp_b{i}",
            "runtime": runtime,
            "precision": "float32",
            "size": "224×224",
            "batch": 8,
            "images_per_second": speed / i,
            "published_top1_percent": 78 + i,
        }
        for runtime, speed in (("onnxruntime", 40.0), ("openvino", 60.0))
        for i in (1, 2, 3)
    ]
    with Image.open(plot_speed(records, tmp_path / "speed.png")) as image:
        assert min(image.size) > 400
        assert len(image.convert("RGB").getcolors(1 << 20)) > 50
    with pytest.raises(DataError, match="nothing to draw"):
        plot_speed([{**records[0], "published_top1_percent": None}], tmp_path / "none.png")
