"""`cyclemlp doctor` from end to end: what it prints, its JSON, its exit codes."""

from __future__ import annotations

import json

import pytest

from cyclemlp.cli.main import main
from cyclemlp.doctor import checks, speed
from cyclemlp.kernels.fused import functions


def test_a_report_from_end_to_end(capsys, monkeypatch):
    monkeypatch.setattr(speed, "MODELS", (("cyclemlp_nano", 32, 2, 2),))
    monkeypatch.setattr(speed, "ROW_SECONDS", 0.05)
    assert main(["doctor", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    order = ["versions:", "processor:", "devices:", "kernels:", "settings:", "checks:", "speed on cpu:"]
    assert [line for line in out.splitlines() if line.rstrip() in order or line.startswith("kernels:")]
    places = [out.index(f"\n{word}" if place else word) for place, word in enumerate(order)]
    assert places == sorted(places)
    assert "  golden results, float32: ok (largest relative error of logits " in out
    assert "  two processes on two devices: not run: one device\n" in out
    assert out.splitlines()[-1] == "cyclemlp doctor on cpu: 5 ok, 0 failed, 4 not run"
    assert out.count("cyclemlp_nano  32²") == 3
    assert "note" not in out
    assert "measuring speed" in err


def test_json_is_all_of_it_and_alone_on_stdout(capsys, monkeypatch):
    monkeypatch.setattr(checks, "CHECKS", checks.CHECKS[-3:])
    assert main(["doctor", "--json", "--no-speed"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"versions", "processor", "devices", "kernels", "settings", "checks", "speed", "summary"} == set(
        facts
    )
    assert [check["verdict"] for check in facts["checks"]] == ["not run", "not run", "ok"]
    assert set(facts["checks"][0]) == {"name", "verdict", "why", "seconds"}
    assert facts["speed"] is None
    assert facts["summary"] == "1 ok, 0 failed, 2 not run"


def test_a_check_that_fails_is_exit_code_1_and_the_others_run(capsys, monkeypatch):
    run = functions.Block.run
    monkeypatch.setattr(functions.Block, "run", lambda *a: run(*a) * 1.01)
    monkeypatch.setattr(speed, "MODELS", ())
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert out.count(": FAILED: ") == 4
    assert "JPEG decoding: ok" in out
    assert out.splitlines()[-1].endswith("1 ok, 4 failed, 4 not run")


def test_a_check_that_raises_is_exit_code_1(capsys, monkeypatch):
    def broken(device):
        raise RuntimeError("cuDNN is not there")

    monkeypatch.setattr(checks, "CHECKS", (("broken", broken), ("whole", lambda device: "found")))
    assert main(["doctor", "--no-speed"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "  broken: FAILED: RuntimeError: cuDNN is not there" in lines
    assert "  whole: ok (found)" in lines


@pytest.mark.parametrize("device", ["tpu", "gpu:0"])
def test_a_device_that_is_not_there_is_exit_code_2(device, capsys):
    assert main(["doctor", "--device", device]) == 2
    assert capsys.readouterr().err.startswith(f"cyclemlp doctor: error: --device is '{device}'")
