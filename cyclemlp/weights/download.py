"""The authors' published weights: fetched once, checked, kept.

They are the files of the authors' release v0.1, trained on ImageNet-1k; their code is under the MIT licence, and
ImageNet's terms allow non-commercial research and education only (docs/weights.md).
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from cyclemlp._cache import cache_folder
from cyclemlp._version import __version__
from cyclemlp.errors import WeightsError
from cyclemlp.files import file_sha256, write_text
from cyclemlp.text import printable, raw_stream, shortened, shown
from cyclemlp.weights.files import read_weights

try:
    import fcntl
except ImportError:  # Windows: two downloads of one file at once are not kept apart there
    fcntl = None  # type: ignore[assignment]

BASE_URL = "https://github.com/ShoufaChen/CycleMLP/releases/download/v0.1/"
#: Whether the files of the inferred variants fit them is not known (docs/variants.md).
PUBLISHED = {f"cyclemlp_b{n}": f"CycleMLP_B{n}.pth" for n in range(1, 6)} | {
    f"cyclemlp_{size[0]}_inferred": f"CycleMLP_{size}.pth" for size in ("tiny", "small", "base")
}
#: The largest published file has some 350 MB.
MAX_BYTES = 2**30

TERMS = (
    "weights by the authors of CycleMLP (MIT licence), trained on ImageNet, "
    "whose terms allow non-commercial research and education"
)

_CHUNK = 2**18  # bytes
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _print(message: str) -> None:
    print(message, file=sys.stderr)


def fetch_pretrained(
    name: str,
    *,
    base_url: str | None = None,
    max_bytes: int = MAX_BYTES,
    timeout_s: float = 30,
    attempts: int = 4,
    say: Callable[[str], None] = _print,
) -> Path:
    """The path of a published weight file, fetched if the cache does not have it.

    A download that breaks off is resumed, by the next attempt or the next call, if the server can do that. The file
    gets its name only when it is whole, readable and of the SHA-256 that is recorded beside it, if one is; whatever
    else was fetched is discarded. The SHA-256 is recorded at first use and checked at every later one.

    Args:
        name: a model that has published weights, `cyclemlp_b1` … `cyclemlp_b5`, or an inferred variant; case does not
            matter.
        base_url: folder that holds the files, http or https; default `$CYCLEMLP_BASE_URL`, else the authors' release.
        max_bytes: a longer file is refused.
        timeout_s: longest silence of the server, in seconds.
        attempts: how often to go on after a broken connection.
        say: where messages for people go; default stderr.

    Raises:
        WeightsError: unknown name, no connection (it says which file to fetch and where to put it), a redirect to
            anything but http and https or from https to http, no space, a file that is too long or no weights, or
            one that is not the file of its first use.
    """
    file_name = PUBLISHED.get(name.lower())
    if file_name is None:
        raise WeightsError(f"no weights of {name!r} were published; there are {', '.join(PUBLISHED)}")
    base = base_url or os.environ.get("CYCLEMLP_BASE_URL") or BASE_URL
    if not base.lower().startswith(("http://", "https://")) or not base.isprintable():
        raise WeightsError(
            f"the base address is {shown(base)}; it must begin with http:// or https:// and have no control characters"
        )
    target = cache_folder() / file_name
    if target.exists() and not target.is_file():
        raise WeightsError(f"{target}: is no file; delete it, and it will be fetched")
    try:
        if not (target.exists() and _record(target).exists()):  # else the cache may be read-only
            target.parent.mkdir(parents=True, exist_ok=True)
            with _locked(target.with_name(f"{file_name}.lock"), say):
                if not target.exists():
                    url = f"{base.rstrip('/')}/{file_name}"
                    say(f"fetching {url}\n  {TERMS}")
                    _download(
                        _Download(url, target, _recorded_digest(target), max_bytes, timeout_s), attempts
                    )
                _record_digest(target, say)
        digest = _check_digest(target)
    except OSError as error:
        raise WeightsError(
            f"{target}: the cache cannot be used ({error.strerror or error}); set CYCLEMLP_HOME to a folder that can "
            "be written"
        ) from error
    say(f"using {target} (SHA-256 {digest})")
    return target


@contextlib.contextmanager
def _locked(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Only one process at a time; the others wait and then find the file."""
    with path.open("w") as lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another process is fetching {path.stem}; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _record(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _record_digest(target: Path, say: Callable[[str], None]) -> None:
    """Write the file's SHA-256 beside it in `sha256sum`'s form, unless another process just did."""
    record = _record(target)
    if not record.exists():
        read_weights(target)  # somebody may have put it there
        write_text(record, f"{file_sha256(target)}  {target.name}\n")
        say(f"recorded its SHA-256 in {record}")


def _recorded_digest(target: Path) -> str | None:
    """The SHA-256 that the file must have; None if none is recorded yet."""
    record = _record(target)
    if not record.exists():
        return None
    text = record.read_bytes()[:1000].decode("ascii", "replace")
    if not re.fullmatch(r"[0-9a-fA-F]{64}(\s.*)?", text, re.DOTALL):
        raise WeightsError(
            f"{record}: holds {shown(text)}; expected a SHA-256 as `sha256sum {target.name}` writes it. Delete it, and "
            "the next use records the file's anew"
        )
    return text[:64].lower()


def _check_digest(target: Path) -> str:
    """The file's SHA-256, if it is still the one of its first use."""
    found, record, expected = file_sha256(target), _record(target), _recorded_digest(target)
    if found != expected:
        raise WeightsError(
            f"{target}: is not the file of its first use: its SHA-256 is {found}, recorded was {expected}. Delete "
            f"{target} and {record.name} to fetch it again; or only {record.name}, if you changed the file yourself"
        )
    return found


# ---- one download


class _Broken(Exception):
    """The connection failed in a way that another attempt may not."""


@dataclass(frozen=True)
class _Version:
    """What tells one version of the file on the server from another."""

    url: str
    length: int | None  # bytes
    etag: str | None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Python's own follows to ftp too, and from https to http, where anybody on the way can answer."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        before, after = (urllib.parse.urlsplit(url).scheme for url in (req.full_url, newurl))
        if after not in ("http", "https") or (before, after) == ("https", "http"):
            reason = f"{msg} - a redirect from {before} to {newurl} is not followed"
            raise urllib.error.HTTPError(newurl, code, reason, headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Download:
    """A download into `X.part`, beside which `X.part.json` says of which version its bytes are.

    Args:
        sha256: of the file, in lower case, if it is known.
    """

    def __init__(self, url: str, target: Path, sha256: str | None, max_bytes: int, timeout_s: float) -> None:
        self.url, self.target, self.sha256 = url, target, sha256
        self.max_bytes, self.timeout_s = max_bytes, timeout_s
        self.part = target.with_name(f"{target.name}.part")
        self.record = target.with_name(f"{target.name}.part.json")

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the file its name, if it is one of weights and the one that was recorded."""
        try:
            if self.sha256 not in (None, found := file_sha256(self.part)):
                record = _record(self.target)
                raise WeightsError(
                    f"has the SHA-256 {found}, and {record} says {self.sha256}. Delete {record.name} if the file was "
                    "changed by those who publish it, else fetch it elsewhere"
                )
            read_weights(self.part)
        except WeightsError as error:
            self.discard()
            reason = str(error).removeprefix(f"{self.part}: ")
            raise WeightsError(
                f"what {self.url} gave is not the weight file; it was discarded: it {reason}. Open the address in a "
                f"browser to see what is there; a file that was fetched otherwise belongs at {self.target}"
            ) from error
        self.part.replace(self.target)
        self.discard()

    def attempt(self) -> None:
        """Fetch the rest. Raises _Broken if the connection does not last, WeightsError if the file is no good."""
        before = self._recorded()
        start = self.part.stat().st_size if before and self.part.exists() else 0
        if before and start == before.length:
            return  # stopped between the last byte and the new name
        headers = {"User-Agent": f"paddle-cyclemlp/{__version__}"}
        if before and start:
            headers |= {"Range": f"bytes={start}-", "If-Range": str(before.etag)}
        try:
            request = urllib.request.Request(self.url, headers=headers)
            response = urllib.request.build_opener(_Redirects).open(request, timeout=self.timeout_s)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the part is longer than the file: of another version
                self.discard()
                raise _Broken("the part that was kept did not fit; starting again") from error
            answer = f"the server answered {error.code} {error.reason}"
            if error.code in (408, 429) or error.code >= 500:
                raise _Broken(answer) from error
            raise WeightsError(self.by_hand(answer)) from error
        except urllib.error.URLError as error:  # no connection at all
            raise WeightsError(self.by_hand(str(error.reason))) from error
        except (ValueError, http.client.InvalidURL) as error:  # of the address, or of where it redirects to
            raise WeightsError(self.by_hand(f"an address that cannot be used ({error})")) from error
        except (http.client.HTTPException, OSError) as error:
            raise _Broken(f"the connection broke ({str(error) or type(error).__name__})") from error
        try:
            with response:
                self._receive(response, before, start)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            self.discard()
            raise WeightsError(
                f"cannot fetch {self.url}: there is no space for it at {self.part.parent} ({error.strerror}); what was "
                "fetched was discarded. Make room, or set CYCLEMLP_HOME to a folder that has more"
            ) from error

    def _receive(self, response: http.client.HTTPResponse, before: _Version | None, start: int) -> None:
        etag = response.headers.get("ETag")
        total = response.length
        if response.status == 206:
            span = re.fullmatch(
                r"bytes (\d{1,15})-\d{1,15}/(\d{1,15})", response.headers.get("Content-Range", "")
            )
            first, total = (int(span[1]), int(span[2])) if span else (None, None)
            if first != start or before is None or (before.length, before.etag) != (total, etag):
                self.discard()
                raise _Broken("the file changed on the server meanwhile; starting again")
        else:
            start = 0  # nothing was kept, the server ignores ranges, or the file changed
        if total is not None and total > self.max_bytes:
            self.discard()
            raise WeightsError(f"{self.url} has {total} bytes, more than the limit of {self.max_bytes}")
        self._write_record(_Version(self.url, total, etag))
        with (
            self.part.open("r+b" if start else "wb") as file,
            tqdm(
                desc=printable(self.target.name, lines=False),
                initial=start,
                total=total,
                unit="B",
                unit_scale=True,
                disable=None,
                file=raw_stream(sys.stderr),
            ) as bar,
        ):
            file.seek(start)
            for chunk in _chunks(response):
                if start + len(chunk) > self.max_bytes:
                    self.discard()
                    raise WeightsError(f"{self.url} gives more than the limit of {self.max_bytes} bytes")
                file.write(chunk)
                start += len(chunk)
                bar.update(len(chunk))
        if total is not None and start != total:
            raise _Broken(f"the connection ended after {start} of {total} bytes")

    def _recorded(self) -> _Version | None:
        """Of which version the part is, if that is known well enough to go on with it."""
        try:
            version = _Version(**json.loads(self.record.read_text()))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        strong = isinstance(version.etag, str) and not version.etag.startswith("W/")
        return version if version.url == self.url and strong else None

    def _write_record(self, version: _Version) -> None:
        self.record.write_text(json.dumps(asdict(version)))

    def by_hand(self, reason: str) -> str:
        if self._recorded() is None:
            self.discard()  # there is no going on with it
        kept = self.part.stat().st_size if self.part.exists() else 0
        reason = shortened(printable(reason, lines=False), 300)
        again = f" {kept} bytes are kept, and the next try goes on from there." if kept else ""
        return (
            f"cannot fetch {self.url}: {reason}.{again} Without a connection, fetch that file elsewhere and put it at "
            f"{self.target}"
        )


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """What has come, so that a silent server costs nothing."""
    while True:
        try:
            chunk = response.read1(_CHUNK)
        except (http.client.HTTPException, OSError) as error:
            raise _Broken(f"the connection broke ({str(error) or type(error).__name__})") from error
        if not chunk:
            return
        yield chunk


def _download(download: _Download, attempts: int) -> None:
    for attempt in range(attempts):
        try:
            download.attempt()
            return download.finish()
        except _Broken as broken:
            if attempt == attempts - 1:
                raise WeightsError(download.by_hand(str(broken))) from broken
            time.sleep(min(2**attempt, 10) * 0.5)
    return None
