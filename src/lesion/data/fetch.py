"""Fetch one file over HTTP: resumed, checked, from the first mirror that gives it."""

import contextlib
import http.client
import logging
import random
import re
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

from lesion.data.part import CHUNK, Part
from lesion.data.publishers import RemoteFile
from lesion.errors import DataError, RemoteError, brief
from lesion.progress import Progress, Silent

log = logging.getLogger(__name__)
PART = ".part"
AGENT = "Mozilla/5.0 (compatible; lesion)"  # Dataverse turns away clients that look like scripts
HEADWAY = 1 << 16  # new bytes after which a server that breaks off, or is slow, counts as working
RETRY = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is waited for."""

    rounds: int = 6
    """How often all mirrors may fail in a row without sending anything new."""
    first_wait_s: float = 1.0
    """Seconds before the second round; doubled each time, and varied by half so that clients spread out."""
    longest_wait_s: float = 60.0
    """Most seconds to wait between rounds, whatever a server's Retry-After asks."""
    timeout_s: float = 30.0
    """Seconds of silence after which a connection is given up."""
    headway_s: float = 60.0
    """Seconds in which at least 64 KiB have to come; a slower connection is given up."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that arrived whole."""

    url: str
    bytes: int
    md5: str
    sha256: str
    received: int
    """Bytes that came over the network in this call; less than `bytes` after a resume."""


class _Failed(Exception):
    """It may work later."""

    def __init__(self, said: str, wait_s: float = 0.0) -> None:
        super().__init__(said)
        self.wait_s = wait_s


class _Rejected(Exception):
    """This mirror will not give the file."""


class _WrongContent(_Rejected):
    """This mirror gives another file."""


def fetch(
    file: RemoteFile,
    target: Path,
    patience: Patience | None = None,
    progress: Progress | None = None,
    authorization: str | None = None,
) -> Fetched:
    """Fetch `file` to `target`, which appears only when it is whole and fits size and checksums.

    What has arrived is kept in `<target>.part` whatever happens, and the next call asks only for the rest. The steps
    of `progress` are bytes. `authorization` is sent to the file's own address, never to where that redirects.

    Raises:
        DataError: a mirror gave other or more bytes than expected, and no other mirror gave the right ones.
        RemoteError: no mirror gave the file.
        OutputError: the file cannot be written.
    """
    progress = progress or Silent()
    part = Part(target.with_name(target.name + PART), progress)
    progress.begin(file.name, file.size, "B")
    try:
        part.resume(file) if file.has_checksum else part.restart()
        url = _fetch_from_any(file, part, patience or Patience(), authorization)
    finally:
        progress.end()
    part.move(target)
    return Fetched(url, part.size, part.md5.hexdigest(), part.sha256.hexdigest(), part.received)


def _fetch_from_any(file: RemoteFile, part: Part, patience: Patience, authorization: str | None) -> str:
    """Complete `part` from any mirror and say from which; one that gives another file is not asked again."""
    mirrors, said = list(file.urls), dict[str, str]()
    failures, forgiven, wrong = 0, False, False
    while mirrors and failures < patience.rounds:
        asked_s, start = 0.0, part.best
        for url in tuple(mirrors):
            try:
                _receive(file, url, part, patience, authorization)
                _check(file, part)
                return url
            except _WrongContent as error:
                said[url] = str(error)
                # A mixture may be wrong though each of its origins is right: then once more, from one of them.
                mixed = len(part.origins) > 1
                if part.size and _is_complete(file, part):
                    part.restart()
                if mixed and not forgiven:
                    forgiven = True
                else:
                    mirrors.remove(url)
                    wrong = True
            except _Rejected as error:
                said[url] = str(error)
                mirrors.remove(url)
            except _Failed as error:
                said[url] = str(error)
                asked_s = max(asked_s, error.wait_s)
            log.debug("%s: %s", url, said[url])
            if part.best >= start + HEADWAY:
                break
        failures = 0 if part.best >= start + HEADWAY else failures + 1
        if mirrors and failures < patience.rounds:
            _wait(failures, asked_s, patience)
    reasons = "; ".join(f"{url}: {reason}" for url, reason in said.items())
    kind = DataError if wrong else RemoteError
    raise kind(f"{file.name} could not be fetched: {reasons}", hint="run it again later, or choose another --source")


def _wait(failures: int, asked_s: float, patience: Patience) -> None:
    planned = patience.first_wait_s * 2.0 ** max(failures - 1, 0) * random.uniform(0.5, 1.5)
    time.sleep(min(max(planned, asked_s), patience.longest_wait_s))


def _is_complete(file: RemoteFile, part: Part) -> bool:
    """Whether no byte is missing, so that wrong content cannot be completed to right content."""
    return file.bytes is None or part.size >= file.bytes


def _check(file: RemoteFile, part: Part) -> None:
    found = {"bytes": part.size, "MD5": part.md5.hexdigest(), "SHA-256": part.sha256.hexdigest()}
    expected = {"bytes": file.bytes, "MD5": file.md5, "SHA-256": file.sha256}
    for name, value in expected.items():
        if value is not None and value != found[name]:
            raise _WrongContent(f"{name} {value} expected, found {found[name]}")


class _KeepSecure(urllib.request.HTTPRedirectHandler):
    """Follows no redirect from HTTPS to anything else."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if req.type == "https" and not newurl.startswith("https:"):
            raise urllib.error.HTTPError(newurl, code, "redirect to an insecure address", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _receive(file: RemoteFile, url: str, part: Part, patience: Patience, authorization: str | None) -> None:
    """Append what `url` sends to `part`; returns when the body is whole as far as the server says."""
    if part.size and part.size == file.bytes:
        return
    request = urllib.request.Request(url, headers={"User-Agent": AGENT, "Accept-Encoding": "identity"})
    if part.size:
        request.add_header("Range", f"bytes={part.size}-")
    if authorization:
        request.add_unredirected_header("Authorization", authorization)
    try:
        with urllib.request.build_opener(_KeepSecure).open(request, timeout=patience.timeout_s) as answer:
            total = _read_promise(answer, file, part)
            _read_body(answer, total, url, part, file.most, patience.headway_s)
    except urllib.error.HTTPError as error:
        with error:
            _explain_refusal(error, part)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise _Rejected(f"its certificate is not valid: {reason.verify_message}") from error
        raise _Failed(brief(reason) if isinstance(reason, BaseException) else str(reason)) from error


def _explain_refusal(error: urllib.error.HTTPError, part: Part) -> None:
    """Raise what an HTTP error means; return when 416 only says that nothing is missing."""
    said = f"HTTP {error.code} {error.reason}"
    if error.code == 416 and part.size:
        if error.headers.get("Content-Range") == f"bytes */{part.size}":
            return
        part.restart()
        raise _Failed(f"{said}: what an earlier run left does not fit")
    if error.code in RETRY:
        raise _Failed(said, _read_retry_after(error.headers.get("Retry-After", "")))
    raise _Rejected(said)


def _read_retry_after(text: str) -> float:
    """Seconds, from a number of seconds or a date; 0 when it is neither."""
    if text.strip().isdecimal():
        return float(text)
    with contextlib.suppress(ValueError, TypeError):
        date = parsedate_to_datetime(text)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    return 0.0


def _read_promise(answer: http.client.HTTPResponse, file: RemoteFile, part: Part) -> int | None:
    """The size of the whole file as the server gives it, else as we know it; empties `part` when all will be sent."""
    if (encoding := answer.headers.get("Content-Encoding", "identity").lower()) != "identity":
        raise _Rejected(f"sends {encoding} instead of the file")
    length = answer.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    start = 0
    if answer.status == 206:
        given = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if given is None or int(given[1]) != part.size:
            part.restart()
            raise _Failed("sent another range than asked")
        start = part.size
        total = int(given[3]) if given[3] != "*" else int(given[2]) + 1
    elif answer.status != 200:
        raise _Rejected(f"HTTP {answer.status} {answer.reason}")
    if None not in (total, file.bytes) and total != file.bytes:
        raise _WrongContent(f"{file.bytes} bytes expected, {total} announced")
    if total is not None and total > file.most:
        raise _WrongContent(f"at most {file.most} bytes expected, {total} announced")
    if start != part.size:
        part.restart()  # it ignores ranges
    return total if total is not None else file.bytes


def _read_body(
    answer: http.client.HTTPResponse, total: int | None, url: str, part: Part, most: int, headway_s: float
) -> None:
    since, size = time.monotonic(), part.size
    with part.open() as handle:
        # One byte more than promised is asked for only where no Content-Length ends the body.
        open_ended = answer.headers.get("Content-Length") is None
        while total is None or part.size < total + open_ended:
            chunk = answer.read1(CHUNK if total is None else min(CHUNK, total + open_ended - part.size))
            if not chunk:
                break
            part.append(handle, chunk, url)
            part.best = max(part.best, part.size)
            if part.size > most:
                raise _WrongContent(f"at most {most} bytes expected, more sent")
            if time.monotonic() - since > headway_s:
                if part.size - size < HEADWAY:
                    raise _Failed(f"sent fewer than {HEADWAY // 1024} KiB in {headway_s:g} s")
                since, size = time.monotonic(), part.size
    if total is not None and part.size < total:
        raise _Failed(f"broke off after {part.size} of {total} bytes")
    if total is not None and part.size > total:
        raise _WrongContent(f"{total} bytes expected, more sent")
