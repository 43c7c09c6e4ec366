"""Bodies of requests with an image, as such and as a multipart form, by `cyclemlp.serve`."""

import asyncio

from hostile_files import image
from starlette.requests import Request

from cyclemlp.serve.decoder import RefusedError, open_upload
from cyclemlp.serve.limits import Limits
from cyclemlp.serve.uploads import Memory, Upload

TYPE = b"multipart/form-data; boundary=b"


def form(name, content, more=b""):
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="%s"\r\n' % name
    return TYPE + b"\0" + head + more + b"\r\n" + content + b"\r\n--b--\r\n"


def seeds():
    png = image("PNG")
    yield form(b"a.png", png)
    yield form(b'a\\"b.png', png, b"Content-Type: image/png\r\n")
    yield TYPE + b"\0--b\r\nContent-Disposition: form-data; name=x\r\n\r\n1\r\n--b--"
    yield b"image/png\0" + png


def check(data):
    kind, _, body = data.partition(b"\0")
    try:
        content, name = asyncio.run(read(kind.replace(b"\n", b"").replace(b"\r", b""), body))
        open_upload(content, name, Limits())
    except RefusedError as error:
        status = error.status
    else:
        status = 200
    assert status < 500, f"status {status}"


async def read(kind, body):
    parts = [body[i : i + 1000] for i in range(0, len(body), 1000)] or [b""]

    async def receive():
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    request = Request({"type": "http", "method": "POST", "path": "/predict", "headers": headers}, receive)
    with Upload(request, Limits(), Memory(2**30)) as upload:
        return await upload.read()
