"""Log lines: one each, whatever a client sends, and nothing in them that it should not find its way into."""

import io
import json
import logging
import os
import struct
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lesion.serve import logwriter
from lesion.serve.logs import choose_request_id, log_access, set_up_logs
from lesion.serve.logwriter import KINDS, SAME, WINDOW_S, Limit, LineHandler
from tests.conftest import PATIENCE_S
from tests.serve.conftest import encode

HOSTILE = [
    "a\nGET /admin 200",
    "a\r\nb",
    "\x1b[2J\x1b]0;title\x07",
    "\u2028\u2029\x85\x0b\x0c\x1c",
    "\u202ecod.exe",
    "\ud800",
    "\0",
    '"}\n{"level": "info"}',
    'status=200 token="admin"',
    "x" * 1_000_000,
    "%s %d %(password)s",
    "🩺é×",
]


@contextmanager
def listen() -> Iterator[io.StringIO]:
    """What lesion's log says from INFO on; the loggers are as before afterwards."""
    stream, ours, root = io.StringIO(), logging.getLogger("lesion"), logging.getLogger()
    before = ours.handlers, ours.propagate, ours.level, list(root.handlers)
    ours.handlers, ours.propagate = [logging.StreamHandler(stream)], False
    ours.setLevel(logging.INFO)
    try:
        yield stream
    finally:
        ours.handlers, ours.propagate, level, root.handlers = before
        ours.setLevel(level)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    with listen() as stream:
        yield stream


def access(**other: Any) -> None:
    known: dict[str, Any] = {"request": "r1", "method": "POST", "route": "/predict", "status": 200, "seconds": 0.01234}
    log_access(**{**known, "client": "203.0.113.9", **other})


def test_a_request_is_one_line_of_text(stream: io.StringIO) -> None:
    set_up_logs("text")
    access(token="alice", model="resnet@0123456789ab", reason=None)
    time, rest = stream.getvalue().split(" ", 1)
    assert time.endswith("+00:00")
    assert rest == (
        "info request request=r1 method=POST route=/predict status=200 ms=12.3 client=203.0.113.9 token=alice "
        "model=resnet@0123456789ab\n"
    )


def test_a_request_is_one_line_of_json(stream: io.StringIO) -> None:
    set_up_logs("json")
    access(route=None, status=404, trace="abc")
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info", "logger": "lesion.access", "message": "request", "request": "r1", "method": "POST",
        "route": "unmatched", "status": 404, "ms": 12.3, "client": "203.0.113.9", "token": None, "model": None,
        "trace": "abc",
    }  # fmt: skip


@pytest.mark.parametrize("form", ["text", "json"])
def test_whatever_a_client_sends_stays_on_one_line(stream: io.StringIO, form: str) -> None:
    set_up_logs(form)
    for number, text in enumerate(HOSTILE):
        access(method=text, client=text, token=text, request=text)
        logging.getLogger(f"lesion.serve.{number}").error("failed: %s", text)  # no more than 10 of one logger
        try:
            raise ValueError(text)
        except ValueError:
            logging.getLogger("lesion.serve").exception(text)
    lines = stream.getvalue().split("\n")
    assert lines.pop() == ""
    assert len(lines) == 3 * len(HOSTILE)
    for line in lines:
        assert line.isprintable()
        assert len(line) < 60_000
        assert len(line.splitlines()) == 1
        if form == "json":
            assert line.isascii()
            assert json.loads(line)["level"] in ("info", "error")
        else:
            assert line.split(" ")[1] in ("info", "error")


@pytest.mark.parametrize("form", ["text", "json"])
@given(text=st.text(), number=st.floats())
def test_no_text_and_no_number_breaks_a_line(form: str, text: str, number: float) -> None:
    with listen() as stream:
        set_up_logs(form)
        access(method=text, more=number)
        logging.getLogger("lesion").warning(text, extra={"fields": {"name": text, "number": number}})
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    if form == "json":
        said = [json.loads(line, parse_constant=pytest.fail) for line in lines]
        assert said[0]["method"].startswith(text[:200])


def test_a_field_of_text_cannot_pose_as_another(stream: io.StringIO) -> None:
    set_up_logs("text")
    access(client="x status=500 ms=9")
    assert r'client="x status=500 ms=9"' in stream.getvalue()


def test_what_went_wrong_is_told_with_its_trace(stream: io.StringIO) -> None:
    set_up_logs("json")
    try:
        raise RuntimeError("the first") from ValueError("its cause")
    except RuntimeError:
        logging.getLogger("lesion.serve").exception("it broke")
    line = json.loads(stream.getvalue())
    assert line["message"] == "it broke"
    assert "ValueError: its cause" in line["error"]
    assert line["error"].rstrip().endswith("RuntimeError: the first")


@pytest.mark.parametrize("form", ["text", "json"])
def test_passwords_of_urls_are_left_out(stream: io.StringIO, form: str) -> None:
    set_up_logs(form)
    try:
        raise OSError("cannot reach redis://:s3cret@h/0")
    except OSError:
        logging.getLogger("lesion.serve").exception("no answer from postgresql://me:s3cret@h/x?sslpassword=s3cret")
    assert "s3cret" not in stream.getvalue()


def test_other_packages_say_their_lines_in_the_same_form(stream: io.StringIO) -> None:
    set_up_logs("json")
    set_up_logs("json")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.\n")
    line = json.loads(stream.getvalue())
    assert (line["logger"], line["message"]) == ("uvicorn.error", "Invalid HTTP request received.")


def test_quiet_says_nothing_of_requests(stream: io.StringIO) -> None:
    logging.getLogger("lesion").setLevel(logging.WARNING)
    set_up_logs("text")
    access()
    assert stream.getvalue() == ""


@pytest.mark.parametrize("header", ["a", "0123-abc_DEF.9", "x" * 64])
def test_an_id_of_the_client_is_kept(header: str) -> None:
    assert choose_request_id(header) == header


@pytest.mark.parametrize("header", [None, "", "x" * 65, "a b", "a\n", "é", "{jndi:ldap://x}", "\ud800"])
def test_a_strange_id_is_replaced(header: str | None) -> None:
    chosen = choose_request_id(header)
    assert len(chosen) == 32
    assert chosen != choose_request_id(header)


def record(message: str, logger: str = "lesion.serve", *values: object) -> logging.LogRecord:
    return logging.LogRecord(logger, logging.WARNING, __file__, 1, message, values, None)


def read_all(descriptor: int, until: str) -> str:
    """What can be read there, up to the words that a test waits for."""
    said = b""
    while until.encode() not in said:
        said += os.read(descriptor, 2**16)
    return said.decode()


def test_a_reader_that_does_not_read_stops_nobody_and_hears_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logwriter, "MOST_CHARACTERS", 2**18)
    readable, writable = os.pipe()
    with os.fdopen(writable, "w") as stream:
        handler = LineHandler(stream, frozenset({"lesion.access"}))
        for _ in range(2000):  # far more than a pipe holds
            handler.emit(record("x" * 1000, "lesion.access"))
        start = time.monotonic()
        handler.flush(0.05)
        assert time.monotonic() - start < PATIENCE_S / 2
        said = read_all(readable, "were dropped, since nothing read them: ")
        handler.emit(record("and on", "lesion.access"))
        said += read_all(readable, "and on")
        handler.flush(PATIENCE_S)
    os.close(readable)
    missed = int(said.partition("nothing read them: ")[2].split()[0])
    assert missed > 1000
    assert said.count("x" * 1000) + missed == 2000


def test_lines_of_one_kind_are_limited_and_the_others_counted(stream: io.StringIO) -> None:
    set_up_logs("text")
    log = logging.getLogger("uvicorn.error")
    for number in range(50):
        log.warning("Invalid HTTP request received.")
        log.error("%s failed", number)
        access()
    text = stream.getvalue()
    assert text.count("Invalid HTTP request") == text.count(" failed") == logwriter.SAME
    assert text.count("info request ") == 50  # one line per request is bounded by the requests


def test_how_many_lines_were_left_out_is_said_after_a_while() -> None:
    limit = Limit()
    admitted = [limit.admit(("a", "b"), 0.0) for _ in range(100)]
    assert admitted.count(True) == SAME
    assert limit.end_windows(WINDOW_S / 2) == []
    assert limit.end_windows(WINDOW_S + 1) == [(("a", "b"), 90)]
    assert limit.admit(("a", "b"), WINDOW_S + 1)
    assert limit.end_windows(10 * WINDOW_S) == []


def test_the_kinds_that_are_told_apart_are_bounded() -> None:
    limit = Limit()
    admitted = [limit.admit(("a", str(number)), 0.0) for number in range(10 * KINDS)]
    assert admitted.count(True) == KINDS + SAME
    assert len(limit._counts) == KINDS + 1


def test_a_broken_reader_fails_nobody() -> None:
    readable, writable = os.pipe()
    os.close(readable)
    with os.fdopen(writable, "w") as stream:
        handler = LineHandler(stream)
        handler.emit(record("nobody reads this"))
        handler.flush(PATIENCE_S)
        handler.emit(record("%d", "lesion", "no number"))
    assert handler._size == 0


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_warning_of_python_is_a_line_and_those_of_the_decoder_are_none(stream: io.StringIO, form: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        logging.captureWarnings(False)  # an earlier test may have begun to
        set_up_logs(form)
        try:
            warnings.warn("something\nis old", UserWarning, stacklevel=1)
            for number in range(100):
                text = f"tag {number} of Doe has too many entries"
                warnings.warn_explicit(text, UserWarning, "TiffImagePlugin.py", 1, "PIL.TiffImagePlugin")
        finally:
            logging.captureWarnings(False)
    (line,) = stream.getvalue().splitlines()
    assert "something" in line
    assert "Doe" not in line


def test_an_image_whose_metadata_warn_writes_no_line(client: TestClient, stream: io.StringIO) -> None:
    entries = b"".join(struct.pack("<HHLL", number, 1, 70_000, 8) for number in range(500))
    exif = b"II*\0" + struct.pack("<IH", 8, 500) + entries + bytes(4)
    image = encode(Image.new("RGB", (32, 32)), "PNG", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        logging.captureWarnings(False)  # an earlier test may have begun to
        set_up_logs("json")
        try:
            assert client.post("/predict", files={"file": ("Doe.png", image)}).status_code == 200
        finally:
            logging.captureWarnings(False)
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["request"]
