"""`cyclemlp serve`: real requests to a real process."""

from __future__ import annotations

import io
import json
import re
import signal
import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from serve.conftest import CLASSES
from serve.service import form, image_bytes, read_answer, running

from cyclemlp.data import evaluation_transform
from cyclemlp.deploy import load_exported
from cyclemlp.serve.app import Answer

QUEUE = 24


@pytest.fixture(scope="module")
def service(exported):
    limits = ("--queue", QUEUE, "--max-megabytes", 2, "--max-megapixels", 1)
    with running(exported, "--threads", 1, *limits) as service:
        yield service
        assert service.process.poll() is None  # whatever was sent


@pytest.fixture(scope="module")
def expected(exported):
    """From an image's content to its logits and maps, without the service."""
    model = load_exported(exported)
    transform = evaluation_transform(model.metadata.preprocessing)

    def expected(content):
        return model(transform(Image.open(io.BytesIO(content)))[None])

    return expected


# ---- what is asked as it should be


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM"])
def test_the_answer_is_the_models(service, expected, kind):
    content = image_bytes(3, (70, 40), kind)
    outputs = expected(content)
    logits = outputs["logits"][0].astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum()
    for body, headers in ((content, {}), form(content, "ünï.txt", "anything")):
        status, answer = service.predict(body, "?maps=true", headers)
        assert status == 200
        Answer.model_validate(answer)
        assert [c["index"] for c in answer["classes"]] == np.argsort(-logits).tolist()
        for entry in answer["classes"]:
            assert entry["name"] == CLASSES[entry["index"]]
            assert entry["probability"] == pytest.approx(probabilities[entry["index"]], abs=1e-5)
            np.testing.assert_allclose(
                entry["map"], outputs["class_maps"][0, entry["index"]], rtol=1e-3, atol=1e-4
            )
        assert (answer["image"]["width"], answer["image"]["height"]) == (70, 40)
        # Resized to 36 and cropped to 32: the middle 8/9 of the shorter side.
        assert answer["image"]["seen"] == pytest.approx(
            [35 - 160 / 9, 20 - 160 / 9, 35 + 160 / 9, 20 + 160 / 9], abs=0.01
        )
        assert answer["model"] == "cyclemlp_nano"
        assert answer["milliseconds"]["total"] >= answer["milliseconds"]["network"] > 0


def test_top_and_no_maps(service):
    status, answer = service.predict(image_bytes(0, mode="L"), "?top=1")
    assert (status, len(answer["classes"])) == (200, 1)
    assert "map" not in answer["classes"][0]


def test_concurrent_requests_get_their_own_answers_in_batches(service, expected):
    contents = [image_bytes(seed, (40 + seed, 50)) for seed in range(12)]
    best = [int(expected(content)["logits"].argmax()) for content in contents]
    assert len(set(best)) > 1
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: service.predict(contents[i % 12]), range(96)))
    assert [status for status, _ in answers] == [200] * 96
    assert [answer["classes"][0]["index"] for _, answer in answers] == best * 8
    assert max(answer["batch"] for _, answer in answers) > 1


def test_a_connection_is_kept_for_further_requests(service):
    body = image_bytes(1)
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with service.connect() as connection:
        for _ in range(3):
            connection.sendall(head + body)
            assert read_answer(connection)[0] == 200
        connection.sendall(head.replace(str(len(body)).encode(), b"5") + b"hello")  # a refusal ends nothing
        assert read_answer(connection)[0] == 415
        connection.sendall(head + body)
        assert read_answer(connection)[0] == 200


def test_what_machines_ask(service):
    service.predict(image_bytes(1))
    assert service.predict(b"hello")[0] == 415
    status, _, content = service.request("GET", "/health")
    assert (status, json.loads(content)["status"]) == (200, "ok")
    facts = json.loads(service.request("GET", "/model")[2])
    assert (facts["name"], facts["classes"], facts["maps"]) == ("cyclemlp_nano", 3, True)
    assert facts["limits"]["queue"] == QUEUE
    _, headers, content = service.request("GET", "/metrics")
    assert headers["Content-Type"].startswith("text/plain")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
    }
    assert samples["cyclemlp_requests_total", "/predict", "200"] >= 1
    assert samples["cyclemlp_requests_total", "/predict", "415"] >= 1
    assert samples["cyclemlp_part_seconds_count", "network"] >= 1
    assert samples["cyclemlp_batch_images_sum",] >= samples["cyclemlp_batch_images_count",] >= 1
    schema = json.loads(service.request("GET", "/openapi.json")[2])
    assert set(schema["paths"]) == {"/predict", "/model", "/health", "/metrics"}
    post = schema["paths"]["/predict"]["post"]
    assert {"200", "400", "408", "413", "415", "503"} <= set(post["responses"])
    assert "multipart/form-data" in post["requestBody"]["content"]


def test_the_page_loads_nothing_from_elsewhere(service):
    status, headers, content = service.request("GET", "/")
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    page = content.decode().replace("http://www.w3.org/2000/svg", "")  # a name, which nobody fetches
    assert not re.search(r"https?:|//\w+\.\w", page)


# ---- what is asked as it should not be


def png_header(width, height):
    """A PNG that claims to be of a size, and ends."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
        + png_data(b"\0")
    )


def png_data(content):
    data = b"IDAT" + zlib.compress(content)
    return struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))


def in_many_scans():
    """A progressive JPEG whose last scan comes 200 times."""
    file = io.BytesIO()
    Image.fromarray(np.full((64, 64), 128, np.uint8)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * 200 + content[-2:]


JPEG = image_bytes(5, (300, 200), "JPEG")
TEXT = {"Content-Type": "text/plain"}
HOSTILE = {
    "bomb of 50000 by 50000": (png_header(50_000, 50_000), {}, 413, "50,000|89,478,485"),
    "one row too many": (png_header(1_000, 1_001), {}, 413, "1,000 × 1,001 pixels"),
    "bomb in a form": (*form(png_header(30_000, 30_000), "small.png"), 413, "small.png"),
    "truncated JPEG": (JPEG[: len(JPEG) // 2], {}, 400, "cannot be decoded"),
    "truncated PNG": (image_bytes(5)[:200], {}, 400, "cannot be decoded"),
    "JPEG's first bytes": (JPEG[:3], {}, 415, "BMP, GIF, JPEG"),
    "200 scans": (in_many_scans(), {}, 413, "scans"),
    "text named .jpg": (*form(b"no image at all", "holiday.jpg"), 415, "holiday.jpg"),
    "HTML as JPEG": (b"<html></html>", {"Content-Type": "image/jpeg"}, 415, "by its content"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", {}, 415, "BMP, GIF, JPEG"),
    "a file's name without content": (*form(b"", "/etc/passwd"), 400, "empty"),
    "no body": (b"", {}, 400, "empty"),
    "form without file": (b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}, 400, "no file"),
    "form without boundary": (b"x", {"Content-Type": "multipart/form-data"}, 400, "form"),
    "broken form": (b"--y\r\nno: end", {"Content-Type": "multipart/form-data; boundary=x"}, 400, "form"),
    "image of no height": (png_header(100, 0), {}, 415, "BMP, GIF, JPEG"),
    "long and thin": (image_bytes(1, (30_000, 1)), {}, 413, "1,080,000 × 36"),
    "3 MB": (b"\xff\xd8\xff" + bytes(3 * 2**20), {}, 413, "2,097,152"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_images_are_refused_in_words(service, name):
    body, headers, status, words = HOSTILE[name]
    found, answer = service.predict(body, headers=headers)
    assert found == status
    assert re.search(words, answer["error"])


def test_a_body_whose_length_is_not_told_is_counted(service):
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    status, answer = service.raw(head, *[chunk] * 33)
    assert status == 413
    assert "2,097,152" in answer["error"]


def test_other_requests_that_cannot_be(service):
    for query in ("?top=0", "?top=1e9", "?maps=perhaps", "?tpo=1"):
        status, answer = service.predict(JPEG, query)
        assert status == 422
        assert f"query.{query[1:4]}" in answer["error"]
    assert answer["error"] == "query.tpo: unknown; the possible ones are top, threshold, maps"
    assert service.request("GET", "/predict")[0] == 405
    assert service.request("GET", "/../../etc/passwd")[0] == 404
    status, answer = service.raw(b"this is not HTTP\r\n\r\n")
    assert status == 400
    assert "HTTP" in answer["error"]
    status, answer = service.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: " + b"a" * 20_000)
    assert status == 431
    assert "16,384" in answer["error"]
    many = b"".join(b"X-%d: y\r\n" % i for i in range(5_000))
    assert service.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + many)[0] == 431


def test_slow_clients_are_told_so(exported):
    """Bodies and heads that come a byte at a time; others are answered meanwhile."""
    limit = 2
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"

    def drip(service, first):
        begun = time.monotonic()
        with service.connect() as connection:
            connection.sendall(first)
            connection.settimeout(0.5)
            while time.monotonic() - begun < 60:
                connection.sendall(b"x")
                try:
                    connection.recv(1, socket.MSG_PEEK)
                except TimeoutError:
                    continue
                return *read_answer(connection), time.monotonic() - begun
        raise AssertionError("no answer")

    with running(exported, "--threads", 1, "--read-timeout", limit) as service, ThreadPoolExecutor(4) as pool:
        firsts = (head, head + JPEG[:100], b"GET /health HTT", b"")
        slow = [pool.submit(drip, service, first) for first in firsts]
        assert service.predict(JPEG)[0] == 200
        for answer in slow:
            status, body, seconds = answer.result()
            assert status == 408
            assert "not complete after 2 s" in body["error"]
            assert seconds > limit


def test_a_full_queue_says_when_to_come_again(service):
    large = image_bytes(0, (900, 700))
    with ThreadPoolExecutor(3 * QUEUE) as pool:
        answers = list(pool.map(lambda _: service.request("POST", "/predict", large), range(3 * QUEUE)))
    assert {status for status, *_ in answers} == {200, 503}
    refused = next(answer for answer in answers if answer[0] == 503)
    assert refused[1]["Retry-After"] == "1"
    assert "try again" in json.loads(refused[2])["error"]
    assert service.predict(JPEG)[0] == 200


def test_slow_clients_are_not_in_the_queue(service):
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx"
    held = [service.connect() for _ in range(3 * QUEUE)]
    try:
        for connection in held:
            connection.sendall(head)
        assert service.predict(JPEG)[0] == 200
    finally:
        for connection in held:
            connection.close()


def test_hosts_and_origins(service):
    def status(method="GET", **headers):
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return service.request(
            method, "/model" if method == "GET" else "/predict", None if method == "GET" else JPEG, named
        )

    port = service.port
    for host in (f"localhost:{port}", "LOCALHOST", "localhost.", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert status(Host=host)[0] == 200, host
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "localhost.evil.example",
        "127.0.0.1@evil",
        "",
        "[::2]",
        "a:b:c",
    ):
        code, _, content = status(Host=host)
        assert code == 421, host
        assert "--allow-host NAME" in json.loads(content)["error"]
    for origin in (f"http://localhost:{port}", "https://127.0.0.1"):
        assert status("POST", Origin=origin)[0] == 200, origin
    for origin in ("http://evil.example", "null", "file://localhost", "http://localhost.evil.example"):
        assert status("POST", Origin=origin)[0] == 403, origin


def test_head_is_get_without_a_body(service):
    status, headers, content = service.request("HEAD", "/")
    assert (status, content) == (200, b"")
    assert int(headers["Content-Length"]) > 1000
    assert service.request("HEAD", "/none")[0] == 404
    assert service.request("HEAD", "/predict")[0] == 405


def test_a_length_told_twice_is_refused_and_ends_the_connection(service):
    smuggled = b"GET /model HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    with service.connect() as connection:
        connection.sendall(head + b"0\r\n\r\n" + smuggled)
        assert read_answer(connection)[0] == 400
        connection.settimeout(10)
        assert connection.recv(1000) == b""  # the other request is not answered


def test_hostile_requests_leave_no_memory_behind(service):
    def assault():
        for body, headers, *_ in HOSTILE.values():
            service.predict(body, headers=headers)
        with service.connect() as connection:  # leaves in the middle
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
                + bytes(100_000)
            )

    for _ in range(4):
        assault()
    before = service.memory_mib()
    for _ in range(16):
        assault()
    # 300 requests; had each left its body, or a decoded image, behind, it were over 100 MiB.
    assert service.memory_mib() - before < 20
    assert service.predict(JPEG)[0] == 200


# ---- its end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_running_requests_are_answered_before_the_end(exported, number):
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(JPEG)}\r\n\r\n".encode()
    with running(exported, "--threads", 1) as service, service.connect() as connection:
        connection.sendall(head + JPEG[:100])
        time.sleep(0.3)
        service.process.send_signal(number)
        while True:  # no more are taken
            try:
                service.connect().close()
            except OSError:
                break
        finish = threading.Timer(0.3, connection.sendall, [JPEG[100:]])
        finish.start()
        assert read_answer(connection)[0] == 200
        assert service.process.wait(20) == 0
        assert service.process.stderr.read().endswith("cyclemlp serve: ended\n")


@pytest.mark.heavy
def test_what_is_not_done_at_the_end_is_told_to_come_again(exported):
    """A request that never comes in whole does not keep the service from ending."""
    with running(exported, "--threads", 1, "--read-timeout", 100) as service, service.connect() as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx")
        time.sleep(0.3)
        service.process.send_signal(signal.SIGTERM)
        status, body = read_answer(connection)
        assert (status, body["error"]) == (503, "the service is ending; try again")
        assert service.process.wait(10) == 0
