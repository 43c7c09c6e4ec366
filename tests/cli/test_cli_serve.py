"""`cyclemlp serve`: what is asked wrongly, and where it listens. The service itself: tests/serve."""

from __future__ import annotations

import socket

import pytest

from cyclemlp.cli.main import main
from cyclemlp.serve.server import _listen, is_loopback


@pytest.fixture
def run(capsys):
    def run(*words):
        code = main(["serve", *map(str, words)])
        return code, capsys.readouterr().err

    return run


def test_what_cannot_be_served_is_said(run, tmp_path):
    code, err = run(tmp_path / "lost")
    assert code == 2
    assert "lost: there is no such file or folder" in err
    (tmp_path / "model.onnx").write_bytes(b"no model")
    code, err = run(tmp_path)
    assert code == 2
    assert "model.onnx" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--max-megapixels", 200], "89.5"),
        (["--read-timeout", 0], "read_seconds is 0"),
        (["--max-megabytes", 600], "allow more"),
    ],
)
def test_limits_that_cannot_be(run, tmp_path, words, told):
    code, err = run(tmp_path, *words)
    assert code == 2
    assert told in err


def test_who_can_reach_it():
    assert all(map(is_loopback, ("127.0.0.1", "127.8.9.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.2", "example.org")))


def test_a_port_that_is_taken():
    from cyclemlp.errors import ConfigError

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port} cannot be had.*--port"):
            _listen("127.0.0.1", port)
    with pytest.raises(ConfigError, match="no name or address"):
        _listen("no such host", 0)
