"""Fetching the published files, from a server on this machine that does what servers and networks do."""

import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from weights_fixtures import content

from cyclemlp.errors import WeightsError
from cyclemlp.weights import download, fetch_pretrained, read_weights

FILE = content("authors_release.pth")
DIGEST = hashlib.sha256(FILE).hexdigest()
HALF = len(FILE) // 2


class Server(http.server.ThreadingHTTPServer):
    """Serves `body` under any path. `log` has (range asked for, bytes sent) of each request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag, self.status = FILE, '"one"', 200
        self.location = None  # where it redirects to
        self.raw = None  # an answer sent as it is
        self.ranges = True  # whether ranges are honoured
        self.tell_length = True
        self.cut_after = []  # how many bytes of each coming answer are sent before the connection is dropped
        self.stalls, self.released = False, threading.Event()  # wait instead of dropping the connection
        self.log = []

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}/v0.1/"

    def handle_error(self, request, client_address):
        pass  # a client that hangs up is part of the tests


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, body, start = self.server, self.server.body, 0
        asked = self.headers.get("Range")
        if server.raw is not None:
            server.log.append((asked, len(server.raw)))
            self.wfile.write(server.raw)
            return
        if server.location is not None:
            server.log.append((asked, 0))
            self.send_response(302)
            self.send_header("Location", server.location)
            self.end_headers()
            return
        if server.status != 200:
            server.log.append((asked, 0))
            self.send_error(server.status)
            return
        honoured = asked and server.ranges and self.headers.get("If-Range") in (None, server.etag)
        if honoured:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if server.tell_length:
            self.send_header("Content-Length", str(len(body) - start))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        send = body[start:]
        if server.cut_after:
            send = send[: server.cut_after.pop(0)]
        server.log.append((asked, len(send)))
        self.wfile.write(send)
        if len(send) < len(body) - start and server.stalls:
            server.released.wait(30)

    def log_message(self, *_):
        pass


@contextmanager
def serving():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CYCLEMLP_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CYCLEMLP_BASE_URL", raising=False)
    return tmp_path / "cache"


def fetch(server, **options):
    return fetch_pretrained("cyclemlp_b1", base_url=server.address, **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_fetched_once_shown_and_kept(server, home, capsys):
    path = fetch(server)
    assert path == home / "CycleMLP_B1.pth"
    assert path.read_bytes() == FILE
    assert names(home) == ["CycleMLP_B1.pth", "CycleMLP_B1.pth.sha256"]
    said = capsys.readouterr().err
    assert f"fetching {server.address}CycleMLP_B1.pth" in said
    assert "MIT licence" in said
    assert "ImageNet" in said
    assert f"SHA-256 {DIGEST}" in said

    (home / "CycleMLP_B1.pth.lock").unlink()
    assert fetch(server) == path
    assert server.log == [(None, len(FILE))]  # the second time nothing was asked for,
    assert not (home / "CycleMLP_B1.pth.lock").exists()  # and nothing written: a cache may be read-only
    said = capsys.readouterr().err
    assert "fetching" not in said
    assert DIGEST in said


def test_the_record_is_sha256sums(server, home):
    fetch(server)
    command = ["sha256sum", "--check", "CycleMLP_B1.pth.sha256"]
    assert subprocess.run(command, cwd=home, capture_output=True, text=True).stdout == "CycleMLP_B1.pth: OK\n"


def test_the_address_is_taken_from_the_environment(server, home, monkeypatch):
    monkeypatch.setenv("CYCLEMLP_BASE_URL", server.address.rstrip("/"))
    assert fetch_pretrained("CycleMLP_B1").read_bytes() == FILE  # Paddle-CycleMLP's spelling, too


def test_cut_off_and_resumed_within_a_call(server, home):
    server.cut_after = [HALF, 1000]
    assert fetch(server).read_bytes() == FILE
    rest = len(FILE) - HALF
    assert server.log == [
        (None, HALF),
        (f"bytes={HALF}-", 1000),
        (f"bytes={HALF + 1000}-", rest - 1000),
    ]


def test_a_server_that_falls_silent(server, home):
    server.cut_after, server.stalls = [HALF], True
    assert fetch(server, timeout_s=0.5).read_bytes() == FILE
    server.released.set()
    assert server.log == [(None, HALF), (f"bytes={HALF}-", len(FILE) - HALF)]


def test_cut_off_and_resumed_by_the_next_call(server, home):
    server.cut_after = [HALF]
    with pytest.raises(
        WeightsError, match=rf"ended after {HALF} of {len(FILE)} bytes.*{HALF} bytes are kept"
    ):
        fetch(server, attempts=1)
    assert names(home) == ["CycleMLP_B1.pth.part", "CycleMLP_B1.pth.part.json"]
    assert fetch(server).read_bytes() == FILE
    assert server.log == [(None, HALF), (f"bytes={HALF}-", len(FILE) - HALF)]
    assert names(home) == ["CycleMLP_B1.pth", "CycleMLP_B1.pth.sha256"]


def test_stopped_before_the_last_step(server, home):
    """All bytes are there, but the process ended before the file had its name."""
    server.cut_after = [HALF]
    with pytest.raises(WeightsError):
        fetch(server, attempts=1)
    (home / "CycleMLP_B1.pth.part").write_bytes(FILE)
    assert fetch(server).read_bytes() == FILE
    assert len(server.log) == 1


@pytest.mark.parametrize("why", ["ranges are ignored", "no ETag", "a weak ETag"])
def test_a_server_without_ranges_gives_all_again(why, server, home):
    if why == "ranges are ignored":
        server.ranges = False
    else:
        server.etag = None if why == "no ETag" else 'W/"one"'
    server.cut_after = [HALF]
    assert fetch(server).read_bytes() == FILE
    assert [sent for _, sent in server.log] == [HALF, len(FILE)]


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, home):
    server.body = bytes(len(FILE))
    server.cut_after = [HALF]
    with pytest.raises(WeightsError):
        fetch(server, attempts=1)
    server.body, server.etag = FILE, '"two"'
    assert fetch(server).read_bytes() == FILE
    assert [sent for _, sent in server.log] == [HALF, len(FILE)]


def test_a_part_that_does_not_fit_is_fetched_anew(server, home):
    """The server honours the range, but its file has another length than the part's."""
    server.body = FILE + b"more"
    server.cut_after = [HALF]
    with pytest.raises(WeightsError):
        fetch(server, attempts=1)
    server.body = FILE
    assert fetch(server).read_bytes() == FILE
    assert server.log[-1] == (None, len(FILE))


def test_a_length_that_is_not_told(server, home):
    server.tell_length = False
    assert fetch(server).read_bytes() == FILE


@pytest.mark.parametrize("tell_length", [True, False])
def test_too_large(tell_length, server, home):
    server.tell_length = tell_length
    with pytest.raises(WeightsError, match=r"limit of 1000"):
        fetch(server, max_bytes=1000)
    assert names(home) == []


def test_no_such_file_is_told_at_once(server, home):
    server.status = 404
    with pytest.raises(WeightsError, match=r"the server answered 404.*put it at .*cache/CycleMLP_B1\.pth"):
        fetch(server)
    assert len(server.log) == 1
    assert names(home) == []


def test_a_busy_server_is_asked_again(server, home):
    server.status = 503
    with pytest.raises(WeightsError, match="the server answered 503"):
        fetch(server, attempts=2)
    assert len(server.log) == 2


def test_a_page_instead_of_weights_is_discarded(server, home):
    server.body = b"<!DOCTYPE html><html>Sign in to continue</html>"
    with pytest.raises(WeightsError, match=r"gave is not the weight file; it was discarded: it is no .*HTML"):
        fetch(server)
    assert names(home) == []


@pytest.mark.parametrize(
    "body", [b"", FILE[:HALF], FILE[:-1], b'{"message": "Not Found"}', b"\x1f\x8b" + bytes(99)]
)
@pytest.mark.parametrize("tell_length", [True, False])
def test_what_is_not_the_whole_file_is_discarded(tell_length, body, server, home):
    """The server gives all that it has, but that is a part, or something else."""
    server.body, server.tell_length = body, tell_length
    with pytest.raises(
        WeightsError, match=r"what http.*CycleMLP_B1\.pth gave is not the weight file; it was disc"
    ):
        fetch(server)
    assert names(home) == []


@pytest.mark.parametrize("etag", [None, 'W/"one"'])
def test_a_part_that_cannot_be_resumed_is_not_kept(etag, server, home):
    server.etag, server.cut_after = etag, [HALF]
    with pytest.raises(WeightsError, match=rf"cannot fetch .* ended after {HALF} of") as caught:
        fetch(server, attempts=1)
    assert "are kept" not in str(caught.value)
    assert names(home) == []


def test_a_redirect_within_http_is_followed(server, home):
    with serving() as other:
        server.location = f"{other.address}elsewhere"
        assert fetch(server).read_bytes() == FILE
        assert other.log == [(None, len(FILE))]


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/passwd", r"302 Found.*file:///etc/passwd"),
        ("FILE:///etc/passwd", r"302 Found.*///etc/passwd"),
        ("ftp://127.0.0.1:9/a.pth", r"302 Found - a redirect from http to ftp://127\.0\.0\.1:9/a\.pth is not followed"),
        ("data:text/plain,weights", r"302 Found.*data:text/plain,weights"),
        ("gopher://127.0.0.1/", r"302 Found.*gopher"),
        ("/v0.1/CycleMLP_B1.pth", r"302 .*infinite loop"),  # to itself
        ("http://[", r"an address that cannot be used"),
        ("http://127.0.0.1:port/", r"an address that cannot be used"),
        ("http://127.0.0.1:99999999/", r"."),
        (f"http://{'a' * 70}.example/", r"."),
        ("http://", r"."),
    ],
)  # fmt: skip
def test_redirects_that_are_not_followed(location, reason, server, home):
    server.location = location
    with pytest.raises(WeightsError, match=rf"cannot fetch http.*CycleMLP_B1\.pth: .*{reason}") as caught:
        fetch(server, attempts=1)
    assert "\n" not in str(caught.value)
    assert f"put it at {home / 'CycleMLP_B1.pth'}" in str(caught.value)
    assert names(home) == []


def test_a_redirect_away_from_https_is_not_followed():
    request = urllib.request.Request("https://example.org/a.pth")
    follow = download._Redirects().redirect_request
    with pytest.raises(urllib.error.HTTPError, match=r"from https to http://example\.org/b is not followed"):
        follow(request, None, 302, "Found", {}, "http://example.org/b")
    assert follow(request, None, 302, "Found", {}, "https://other.org/b").full_url == "https://other.org/b"
    plain = urllib.request.Request("http://example.org/a.pth")
    assert follow(plain, None, 302, "Found", {}, "https://example.org/b").full_url == "https://example.org/b"


RAW = {
    "no HTTP": b"220 mail.example ready\r\n",
    "nothing": b"",
    "a status of control characters": b"HTTP/1.0 404 \x1b[2J\x1b]0;title\x07\r\n\r\n",
    "a chunk that is cut off": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n" + FILE[:100],
    "a chunk of no size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "a range that nobody asked for": b"HTTP/1.0 206 OK\r\nContent-Range: bytes %s-1/2\r\n\r\nab"
    % (b"9" * 5000),
    "too many headers": b"HTTP/1.0 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    "a header without end": b"HTTP/1.0 200 OK\r\nA: " + b"b" * 100_000,
    "a length below 0": b"HTTP/1.0 200 OK\r\nContent-Length: -5\r\n\r\n" + FILE[:100],
    "a length of 5000 digits": b"HTTP/1.0 200 OK\r\nContent-Length: "
    + b"9" * 5000
    + b"\r\n\r\n"
    + FILE[:100],
    "no content": b"HTTP/1.0 204 No Content\r\n\r\n",
}


@pytest.mark.parametrize("case", RAW)
def test_answers_that_are_no_http(case, server, home):
    server.raw = RAW[case]
    with pytest.raises(WeightsError, match=r"http://127.*CycleMLP_B1\.pth") as caught:
        fetch(server, attempts=1)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    assert names(home) == []


@pytest.mark.parametrize(
    "base",
    ["http://", "http://[", "http://a b/", "http://a:b/", "http://a..b/", "HTTP://a:b"],
)
def test_an_address_that_is_none(base, home):
    with pytest.raises(WeightsError, match=r"cannot fetch .*put it at") as caught:
        fetch_pretrained("cyclemlp_b1", base_url=base)
    assert str(caught.value).isprintable()
    assert names(home) == []
    with pytest.raises(
        WeightsError, match=r"address is 'http://\\x1b\[2J/'; it must .* no control characters"
    ):
        fetch_pretrained("cyclemlp_b1", base_url="http://\x1b[2J/")


def test_no_space(server, home):
    home.mkdir()
    (home / "CycleMLP_B1.pth.part").symlink_to("/dev/full")
    with pytest.raises(
        WeightsError, match=r"cannot fetch http.*there is no space.*No space left.*CYCLEMLP_HOME"
    ):
        fetch(server)
    assert names(home) == []
    assert len(server.log) == 1
    assert fetch(server).read_bytes() == FILE


def test_a_file_of_another_sum_is_discarded(server, home):
    home.mkdir()
    record = home / "CycleMLP_B1.pth.sha256"
    record.write_text(f"{'0' * 64}  CycleMLP_B1.pth\n")
    with pytest.raises(
        WeightsError, match=rf"discarded: it has the SHA-256 {DIGEST}, and .*sha256 says 0000"
    ):
        fetch(server)
    assert names(home) == ["CycleMLP_B1.pth.sha256"]
    record.write_text(f"{DIGEST.upper()} *CycleMLP_B1.pth\n")  # as other programs write it
    assert fetch(server).read_bytes() == FILE


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0", b"<html>", b"0" * 63, b"g" * 64])
def test_a_record_that_is_none(content, server, home):
    fetch(server)
    (home / "CycleMLP_B1.pth.sha256").write_bytes(content)
    with pytest.raises(WeightsError, match=r"B1\.pth\.sha256: holds .*expected a SHA-256 .*Delete it"):
        fetch(server)


@pytest.mark.parametrize(
    "record", [b"", b"[]", b"\xff", b'{"url": 1, "length": "a", "etag": 5}', b"[" * 9999]
)
def test_a_part_of_a_damaged_record_is_fetched_anew(record, server, home):
    home.mkdir()
    (home / "CycleMLP_B1.pth.part").write_bytes(b"something")
    (home / "CycleMLP_B1.pth.part.json").write_bytes(record)
    assert fetch(server).read_bytes() == FILE


@pytest.mark.parametrize("special", ["folder", "FIFO"])
def test_something_else_of_the_files_name(special, home):
    home.mkdir()
    target = home / "CycleMLP_B1.pth"
    target.mkdir() if special == "folder" else os.mkfifo(target)
    (home / "CycleMLP_B1.pth.sha256").write_text(f"{DIGEST}  CycleMLP_B1.pth\n")
    with pytest.raises(WeightsError, match=r"CycleMLP_B1\.pth: is no file; delete it"):
        fetch_pretrained("cyclemlp_b1")


def test_without_a_connection(home):
    with serving() as server:
        address = server.address  # nobody listens there afterwards
    with pytest.raises(WeightsError) as caught:
        fetch_pretrained("cyclemlp_b3", base_url=address)
    message = str(caught.value)
    assert f"cannot fetch {address}CycleMLP_B3.pth" in message
    assert f"fetch that file elsewhere and put it at {home / 'CycleMLP_B3.pth'}" in message


def test_a_file_that_was_put_there(home, capsys):
    home.mkdir()
    (home / "CycleMLP_B2.pth").write_bytes(FILE)
    path = fetch_pretrained("cyclemlp_b2", base_url="http://127.0.0.1:9/")
    assert read_weights(path).layout == "authors"
    assert (home / "CycleMLP_B2.pth.sha256").read_text() == f"{DIGEST}  CycleMLP_B2.pth\n"
    (home / "CycleMLP_B4.pth").write_bytes(b"<html>")
    with pytest.raises(WeightsError, match=r"CycleMLP_B4\.pth: is no weight file"):
        fetch_pretrained("cyclemlp_b4")


def test_a_cache_that_changed_is_told(server, home):
    path = fetch(server)
    changed = bytearray(FILE)
    changed[HALF] ^= 1
    path.write_bytes(changed)
    with pytest.raises(WeightsError, match=rf"recorded was {DIGEST}\. Delete .* to fetch it again"):
        fetch(server)
    path.unlink()
    (home / "CycleMLP_B1.pth.sha256").unlink()
    assert fetch(server).read_bytes() == FILE


def test_two_processes_at_once_fetch_once(server, home):
    program = (
        "import sys; from cyclemlp.weights import fetch_pretrained\n"
        f"fetch_pretrained('cyclemlp_b1', base_url={server.address!r})"
    )
    command = [sys.executable, "-c", program]
    both = [
        subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL) for _ in range(2)
    ]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert (home / "CycleMLP_B1.pth").read_bytes() == FILE
    assert server.log == [(None, len(FILE))]


def test_what_cannot_be_fetched_is_told(home):
    with pytest.raises(
        WeightsError, match=r"no weights of 'cyclemlp_nano' were published; there are cyclemlp_b1, "
    ):
        fetch_pretrained("cyclemlp_nano")
    with pytest.raises(WeightsError, match=r"it must begin with http:// or https://"):
        fetch_pretrained("cyclemlp_b1", base_url="file:///etc")


def test_a_cache_that_cannot_be_used_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CYCLEMLP_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="set CYCLEMLP_HOME to a folder"):
        fetch_pretrained("cyclemlp_b1")
