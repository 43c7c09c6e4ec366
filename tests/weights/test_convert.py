"""`cyclemlp convert`."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file
from weights_fixtures import FILES, parameters, rebuild

from cyclemlp.cli.main import main
from cyclemlp.weights import read_weights, write_weights


@pytest.mark.parametrize("file_name", FILES)
@pytest.mark.parametrize("out", ["out.pdparams", "out.safetensors"])
def test_every_form(file_name, out, tmp_path, capsys):
    source = rebuild(file_name, tmp_path)
    assert main(["convert", str(source), str(tmp_path / out)]) == 0
    said = capsys.readouterr().out
    layout = "paddle" if file_name == "seed.pdparams" else "authors"
    assert f"read    {source} ({layout} layout)" in said
    assert "202 tensors (202 float32), 234,712 numbers" in said
    assert "20 offset buffers checked (sfc_h 1×3, sfc_w 3×1) and left out" in said
    assert "model: not named in the file" in said
    assert f"wrote   {tmp_path / out} (paddle layout)" in said
    tensors = read_weights(tmp_path / out).tensors
    for name, value in parameters().items():
        np.testing.assert_array_equal(tensors[name], value.T if value.ndim == 2 else value)


def test_for_the_authors_code(tmp_path):
    source, target = rebuild("seed.pdparams", tmp_path), tmp_path / "out.safetensors"
    assert main(["convert", str(source), str(target), "--to-layout", "authors"]) == 0
    stored = load_file(target)
    assert len(stored) == 222
    for name, value in parameters().items():
        np.testing.assert_array_equal(stored[name], value)


def test_json_metadata_and_step_sizes_pass_through(tmp_path, capsys):
    metadata = {
        "format": 1,
        "model": "cyclemlp_nano",
        "overrides": {"step_size": 5},
        "preprocessing": {},
        "epoch": 3,
    }
    tensors = {
        "a.sfc_h.weight": np.ones((8, 8, 1, 1), "f2"),
        "fc.weight": np.ones((2, 3)),
        "fc.bias": np.ones(3),
    }
    run = tmp_path / "run"
    run.mkdir()
    write_weights(run / "best.safetensors", tensors, metadata=metadata)
    out = tmp_path / "authors.safetensors"
    assert main(["convert", str(run), str(out), "--to-layout", "authors", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["input"] == {
        "path": str(run / "best.safetensors"),
        "layout": "paddle",
        "tensors": 3,
        "parameters": 73,
        "dtypes": {"float16": 1, "float64": 2},
        "step_sizes": {},
        "notes": [],
        "metadata": metadata,
    }
    assert facts["output"] == {"path": str(out), "layout": "authors", "bytes": out.stat().st_size}
    file = read_weights(out)
    assert (file.metadata, file.step_sizes) == (metadata, {"sfc_h": (1, 5)})
    # A file without metadata says its step size by its buffers, and keeps it.
    write_weights(tmp_path / "bare.safetensors", tensors, layout="authors", step_sizes={"sfc_h": (2, 3)})
    assert (
        main(["convert", str(tmp_path / "bare.safetensors"), str(out), "--to-layout", "authors", "--force"])
        == 0
    )
    assert read_weights(out).step_sizes == {"sfc_h": (2, 3)}


def test_half_the_size(tmp_path, capsys):
    tensors = {"a.weight": np.array([[1 / 3, 6e4]]), "count": np.array([7])}
    source, out = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    write_weights(source, tensors)
    assert main(["convert", str(source), str(out), "--dtype", "float16"]) == 0
    written = read_weights(out).tensors
    assert (written["a.weight"].dtype, written["count"].dtype) == (np.float16, np.int64)
    np.testing.assert_array_equal(written["a.weight"], tensors["a.weight"].astype("f2"))
    write_weights(source, {"a.weight": np.array([[7e4]])})
    assert main(["convert", str(source), str(out), "--dtype", "float16", "--force"]) == 2
    assert "a.weight has numbers that are too large for float16" in capsys.readouterr().err


def test_nothing_is_replaced_unasked(tmp_path, capsys):
    source, target = rebuild("seed.pdparams", tmp_path), tmp_path / "out.pdparams"
    target.write_text("precious")
    assert main(["convert", str(source), str(target)]) == 2
    assert f"error: {target} exists; --force replaces it" in capsys.readouterr().err
    assert target.read_text() == "precious"
    assert main(["convert", str(source), str(target), "--force"]) == 0
    assert len(read_weights(target).tensors) == 202


def test_a_file_onto_itself(tmp_path):
    """The tensors are in memory before the file is replaced."""
    source = rebuild("seed.pdparams", tmp_path)
    assert main(["convert", str(source), str(source), "--force"]) == 0
    assert len(read_weights(source).tensors) == 202


def test_the_layout_is_asked_for_only_if_needed(tmp_path, capsys):
    from safetensors.numpy import save_file

    save_file({"proj.weight": np.arange(4, dtype="f4").reshape(2, 2)}, tmp_path / "x.safetensors")
    command = ["convert", str(tmp_path / "x.safetensors"), str(tmp_path / "y.safetensors")]
    assert main(command) == 2
    assert "does not tell its layout" in capsys.readouterr().err
    assert main([*command, "--layout", "authors"]) == 0
    assert read_weights(tmp_path / "y.safetensors").tensors["proj.weight"].tolist() == [[0, 2], [1, 3]]


def test_help_is_for_newcomers(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["convert", "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    for word in ("examples:", "--to-layout", "cyclemlp convert CycleMLP_B1.pth", "PyTorch is not needed"):
        assert word in said
