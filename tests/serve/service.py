"""A server process on loopback, and raw requests to it: what the tests of serving share."""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

BOUNDARY = "----a-boundary"


class Service:
    """A running `cyclemlp serve`."""

    def __init__(self, process, port):
        self.process, self.port = process, port

    def request(self, method, path, body=None, headers=()):
        """(status, headers, content) of a request of its own connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def predict(self, body, query="", headers=()):
        """(status, JSON) of POST /predict."""
        status, _, content = self.request("POST", f"/predict{query}", body, headers)
        return status, json.loads(content)

    def raw(self, *parts, timeout=30):
        """(status, JSON) of what is sent as it is, part by part; a part may be a function that is called."""
        with self.connect(timeout) as connection:
            for part in parts:
                if callable(part):
                    part()
                else:
                    connection.sendall(part)
            return read_answer(connection)

    def connect(self, timeout=30):
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def memory_mib(self):
        """Resident memory of the process."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def read_answer(connection):
    """(status, JSON) that a connection gives."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, json.loads(response.read())


@contextmanager
def running(model, *words):
    """A service of `model` on a free port; it is ended, if it still runs."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(
        [sys.executable, "-m", "cyclemlp", "serve", str(model), "--port", "0", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        line = process.stdout.readline()
        if "http://" not in line:
            raise RuntimeError(f"the service did not start: {line}{process.communicate(timeout=30)[1]}")
        yield Service(process, int(line.split("/ ;")[0].rsplit(":", 1)[1]))
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def form(content, filename="cat.jpg", field="image"):
    """(body, headers) of a multipart form with one file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{filename}"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def image_bytes(seed, size=(50, 40), form="PNG", mode="RGB"):
    """An image of random coloured patches, as a file's content."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size).convert(mode).save(file, form)
    return file.getvalue()
