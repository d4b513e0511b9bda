"""One file over HTTP, from servers that break, lie, stall and recover."""

import hashlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from lesion.data import fetch as module
from lesion.data.fetch import Fetched, Patience, fetch
from lesion.data.publishers import RemoteFile
from lesion.errors import DataError, OutputError, RemoteError
from tests.data.web import Web, break_at, go_to, ignore_range, pour, run_web, send, stall, status

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
QUICK = Patience(rounds=4, first_wait_s=0.01, longest_wait_s=0.05, timeout_s=0.4)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("no_proxy", "*")
    with run_web() as web:
        yield web


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "file.bin"


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "file.bin.part"


def describe(*urls: str, content: bytes = CONTENT, **facts: Any) -> RemoteFile:
    known = {"bytes": len(content), "md5": hashlib.md5(content).hexdigest()}
    return RemoteFile("file.bin", urls, "", **{**known, **facts})


def unknown(*urls: str) -> RemoteFile:
    return RemoteFile("file.bin", urls, "")


def get(file: RemoteFile, target: Path, **options: Any) -> Fetched:
    return fetch(file, target, QUICK, **options)


def test_a_file_arrives_with_its_checksums(web: Web, target: Path, part: Path) -> None:
    url = web.put("/file", CONTENT)
    fetched = get(describe(url, sha256=hashlib.sha256(CONTENT).hexdigest()), target)
    assert target.read_bytes() == CONTENT
    assert fetched == Fetched(
        url, len(CONTENT), hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest(), len(CONTENT)
    )
    assert not part.exists()
    assert web.headers[0]["User-Agent"] == "Mozilla/5.0 (compatible; lesion)"
    assert web.headers[0]["Accept-Encoding"] == "identity"


def test_an_empty_file_is_a_file(web: Web, target: Path) -> None:
    assert get(describe(web.put("/file", b""), content=b""), target).bytes == 0
    assert target.read_bytes() == b""


@pytest.mark.parametrize("size", [0, 1, 1000, 299_999])
def test_what_an_earlier_run_left_is_not_fetched_again(size: int, web: Web, target: Path, part: Path) -> None:
    part.write_bytes(CONTENT[:size])
    fetched = get(describe(web.put("/file", CONTENT)), target)
    assert target.read_bytes() == CONTENT
    assert web.requests == [("/file", f"bytes={size}-" if size else "")]
    assert fetched.received == len(CONTENT) - size


def test_a_whole_part_needs_no_request(web: Web, target: Path, part: Path) -> None:
    part.write_bytes(CONTENT)
    assert get(describe(web.put("/file", CONTENT)), target).received == 0
    assert web.requests == []
    assert target.read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_thrown_away(web: Web, target: Path, part: Path) -> None:
    part.write_bytes(CONTENT + b"more")
    get(describe(web.put("/file", CONTENT)), target)
    assert web.requests == [("/file", "")]


def test_a_wrong_part_is_noticed_and_fetched_anew_from_the_same_mirror(web: Web, target: Path, part: Path) -> None:
    part.write_bytes(OTHER[:1000])
    get(describe(web.put("/file", CONTENT)), target)
    assert target.read_bytes() == CONTENT
    assert web.requests == [("/file", "bytes=1000-"), ("/file", "")]


def test_without_a_checksum_nothing_is_resumed(web: Web, target: Path, part: Path) -> None:
    part.write_bytes(OTHER[:1000])
    get(unknown(web.put("/file", CONTENT)), target)
    assert target.read_bytes() == CONTENT


def test_a_broken_connection_goes_on_where_it_broke(web: Web, target: Path) -> None:
    url = web.put("/file", CONTENT, *(break_at(stop) for stop in (50_000, 120_000, 200_000, 201_000, 290_000, 299_999)))
    fetched = get(describe(url), target)
    assert target.read_bytes() == CONTENT
    assert web.requests[1] == ("/file", "bytes=50000-")
    assert fetched.received == len(CONTENT)


def test_a_server_that_never_gets_further_is_given_up(web: Web, target: Path, part: Path) -> None:
    url = web.put("/file", CONTENT, *[break_at(100_000)] * 20)
    with pytest.raises(RemoteError, match=r"file.bin could not be fetched: .*broke off after 100000 of 300000 bytes"):
        get(describe(url), target)
    assert part.stat().st_size == 100_000
    assert not target.exists()
    assert len(web.requests) <= 6


def test_a_server_that_ignores_ranges_and_breaks_is_given_up(web: Web, target: Path) -> None:
    def cut(handler: Any) -> None:
        handler.say(200, {"Content-Length": "300000"}, CONTENT[:150_000])

    url = web.put("/file", CONTENT, *[cut] * 20)
    with pytest.raises(RemoteError, match="broke off"):
        get(describe(url), target)
    assert len(web.requests) <= 6


def test_a_server_that_ignores_ranges_sends_all(web: Web, target: Path, part: Path) -> None:
    part.write_bytes(CONTENT[:1000])
    get(describe(web.put("/file", CONTENT, ignore_range)), target)
    assert target.read_bytes() == CONTENT
    assert len(web.requests) == 1


@pytest.mark.parametrize("given", ["bytes 0-299999/300000", "bytes 2000-299999/300000", "pages 1-2/3", ""])
def test_another_range_than_asked_is_not_taken(given: str, web: Web, target: Path, part: Path) -> None:
    part.write_bytes(CONTENT[:1000])
    url = web.put("/file", CONTENT, send(CONTENT[1000:], 206, Content_Range=given))
    get(describe(url), target)
    assert target.read_bytes() == CONTENT
    assert web.requests == [("/file", "bytes=1000-"), ("/file", "")]


def test_416_for_a_part_that_does_not_fit_starts_anew(web: Web, target: Path, part: Path) -> None:
    part.write_bytes(CONTENT + b"more")
    get(describe(web.put("/file", CONTENT), bytes=None), target)
    assert target.read_bytes() == CONTENT
    assert [asked for _, asked in web.requests] == ["bytes=300004-", ""]


def test_416_for_a_whole_part_means_done(web: Web, target: Path, part: Path) -> None:
    part.write_bytes(CONTENT)
    assert get(describe(web.put("/file", CONTENT), bytes=None), target).received == 0
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again(code: int, web: Web, target: Path) -> None:
    get(describe(web.put("/file", CONTENT, status(code), status(code))), target)
    assert target.read_bytes() == CONTENT
    assert len(web.requests) == 3


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 451])
def test_a_refusal_is_final(code: int, web: Web, target: Path) -> None:
    with pytest.raises(RemoteError, match=f"HTTP {code}"):
        get(describe(web.put("/file", CONTENT, *[status(code)] * 9)), target)
    assert len(web.requests) == 1


def test_waits_grow_and_vary_and_end(web: Web, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    with pytest.raises(RemoteError, match="HTTP 503"):
        fetch(describe(web.put("/file", CONTENT, *[status(503)] * 9)), target, Patience(6, 1.0, 10.0, 1.0))
    assert len(waits) == 5
    for wait, planned in zip(waits, [1, 2, 4, 8, 10], strict=True):
        assert min(planned / 2, 10) <= wait <= min(planned * 1.5, 10)


@pytest.mark.parametrize(
    ("said", "low", "high"),
    [("7", 7, 7), ("99999", 20, 20), ("soon", 0.5, 1.5), ("-3", 0.5, 1.5), ("DATE", 5, 12)],
)
def test_retry_after_is_honoured_within_reason(
    said: str, low: float, high: float, web: Web, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    said = said.replace("DATE", formatdate(time.time() + 12))
    url = web.put("/file", CONTENT, status(429, Retry_After=said))
    fetch(describe(url), target, Patience(4, 1.0, 20.0, 1.0))
    assert len(waits) == 1
    assert low <= waits[0] <= high


def test_silence_is_a_failure(web: Web, target: Path) -> None:
    start = time.monotonic()
    get(describe(web.put("/file", CONTENT, stall(60))), target)
    assert target.read_bytes() == CONTENT
    assert time.monotonic() - start < 30  # the silence was not waited out
    assert web.requests[1] == ("/file", "bytes=10-")


def test_a_dead_mirror_is_passed_over(web: Web, target: Path) -> None:
    with socket.socket() as taken:  # bound, not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}/file"
        fetched = get(describe(dead, web.put("/file", CONTENT)), target)
    assert fetched.url == web.url("/file")


def test_a_mirror_without_the_file_is_passed_over(web: Web, target: Path) -> None:
    assert get(describe(web.url("/nowhere"), web.put("/file", CONTENT)), target).url == web.url("/file")


def test_the_second_mirror_completes_what_the_first_began(web: Web, target: Path) -> None:
    first = web.put("/a", CONTENT, break_at(60_000), *[status(500)] * 9)
    fetched = get(describe(first, web.put("/b", CONTENT)), target)
    assert fetched.received == len(CONTENT)
    assert ("/b", "bytes=60000-") in web.requests


def test_wrong_bytes_are_deleted_and_the_next_mirror_asked(web: Web, target: Path) -> None:
    fetched = get(describe(web.put("/a", OTHER), web.put("/b", CONTENT)), target)
    assert fetched.url == web.url("/b")
    assert target.read_bytes() == CONTENT
    assert [path for path, _ in web.requests] == ["/a", "/b"]


def test_wrong_bytes_everywhere_are_a_clear_error(web: Web, target: Path, part: Path) -> None:
    expected, found = hashlib.md5(CONTENT).hexdigest(), hashlib.md5(OTHER).hexdigest()
    with pytest.raises(DataError, match=f"file.bin could not be fetched: .*MD5 {expected} expected, found {found}"):
        get(describe(web.put("/a", OTHER)), target)
    assert not part.exists()
    assert not target.exists()


def test_the_sha256_is_checked_too(web: Web, target: Path) -> None:
    with pytest.raises(DataError, match="SHA-256 000 expected"):
        get(describe(web.put("/a", CONTENT), sha256="000"), target)


@pytest.mark.parametrize("length", [299_999, 300_001, 5, 10**12])
def test_another_announced_size_is_another_file(length: int, web: Web, target: Path, part: Path) -> None:
    url = web.put("/a", CONTENT, *[send(CONTENT, Content_Length=str(length))] * 9)
    with pytest.raises(DataError, match=f"300000 bytes expected, {length} announced"):
        get(describe(url), target)
    assert len(web.requests) == 1


def test_more_bytes_than_known_are_cut_off(web: Web, target: Path) -> None:
    with pytest.raises(DataError, match="300000 bytes expected, more sent"):
        get(describe(web.put("/a", CONTENT, *[send(CONTENT + b"more")] * 9)), target)


def test_fewer_bytes_than_known_without_a_length_are_asked_for(web: Web, target: Path) -> None:
    get(describe(web.put("/a", CONTENT, send(CONTENT[:70_000]))), target)
    assert target.read_bytes() == CONTENT


def test_a_body_shorter_than_its_length_is_not_taken_for_whole(web: Web, target: Path) -> None:
    get(unknown(web.put("/a", CONTENT, send(CONTENT[:70_000], Content_Length="300000"))), target)
    assert target.read_bytes() == CONTENT


def test_compressed_answers_are_not_the_file(web: Web, target: Path) -> None:
    url = web.put("/a", CONTENT, send(CONTENT, Content_Encoding="gzip"))
    with pytest.raises(RemoteError, match="sends gzip instead of the file"):
        get(describe(url), target)


def test_redirects_are_followed_with_the_range_and_without_the_token(web: Web, target: Path, part: Path) -> None:
    part.write_bytes(CONTENT[:1000])
    web.put("/store", CONTENT)
    url = web.put("/file", b"", go_to(web.url("/hop")))
    web.put("/hop", b"", go_to(web.url("/store")))
    get(describe(url), target, authorization="Bearer secret")
    assert web.requests == [(path, "bytes=1000-") for path in ("/file", "/hop", "/store")]
    assert [headers.get("Authorization") for headers in web.headers] == ["Bearer secret", None, None]


def test_redirects_in_a_circle_end(web: Web, target: Path) -> None:
    url = web.put("/file", b"", *[go_to(web.url("/file"))] * 99)
    with pytest.raises(RemoteError, match="HTTP 302"):
        get(describe(url), target)


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirects_lead_only_to_the_web(place: str, web: Web, target: Path) -> None:
    with pytest.raises(RemoteError):
        get(describe(web.put("/file", b"", *[go_to(place)] * 9)), target)
    assert not target.exists()


def test_redirects_keep_encryption() -> None:
    import urllib.error
    import urllib.request
    from email.message import Message

    handler, secure = module._KeepSecure(), urllib.request.Request("https://a.example/x")
    with pytest.raises(urllib.error.HTTPError, match="insecure"):
        handler.redirect_request(secure, None, 302, "Found", Message(), "http://a.example/x")  # type: ignore[arg-type]
    assert handler.redirect_request(secure, None, 302, "Found", Message(), "https://b.example/x")  # type: ignore[arg-type]


def test_a_full_disk_is_said_at_once(web: Web, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def write(self, chunk: bytes) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.Part, "open", lambda part: Full())
    with pytest.raises(OutputError, match="No space left"):
        get(describe(web.put("/file", CONTENT)), target)
    assert len(web.requests) == 1


class Steps:
    """Progress that adds up."""

    def __init__(self) -> None:
        self.label, self.total, self.unit, self.done, self.ended = "", 0, "", 0, False

    def begin(self, label: str, total: int, unit: str = "") -> None:
        self.label, self.total, self.unit = label, total, unit

    def advance(self, steps: int = 1, **figures: float) -> None:
        self.done += steps

    def end(self) -> None:
        self.ended = True


def test_progress_counts_bytes_and_forgets_those_thrown_away(web: Web, target: Path, part: Path) -> None:
    part.write_bytes(OTHER[:1000])
    steps = Steps()
    get(describe(web.put("/file", CONTENT, break_at(100_000))), target, progress=steps)
    assert (steps.label, steps.total, steps.unit) == ("file.bin", 300_000, "B")
    assert steps.done == 300_000
    assert steps.ended


def test_ctrl_c_keeps_the_part(web: Web, target: Path, part: Path) -> None:
    class Impatient(Steps):
        def advance(self, steps: int = 1, **figures: float) -> None:
            super().advance(steps)
            if self.done > 100_000:
                raise KeyboardInterrupt

    steps = Impatient()
    with pytest.raises(KeyboardInterrupt):
        get(describe(web.put("/file", CONTENT, stall(0), break_at(150_000))), target, progress=steps)
    left = part.read_bytes()
    assert len(left) > 100_000
    assert left == CONTENT[: len(left)]
    assert steps.ended
    get(describe(web.url("/file")), target)
    assert web.requests[-1] == ("/file", f"bytes={len(left)}-")
    assert target.read_bytes() == CONTENT


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_process_leaves_what_had_arrived(web: Web, target: Path, part: Path) -> None:
    def half(handler: Any) -> None:
        handler.say(200, {"Content-Length": "300000"}, CONTENT[:120_000])
        handler.wfile.flush()
        time.sleep(120)  # in a daemon thread, which nobody waits for

    file = describe(web.put("/file", CONTENT, half))
    code = (
        "from pathlib import Path\nfrom lesion.data.fetch import fetch\n"
        f"from lesion.data.publishers import RemoteFile\nfetch({file!r}, Path({str(target)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size == 120_000):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert part.read_bytes() == CONTENT[:120_000]
    assert get(file, target).received == 180_000
    assert web.requests[-1] == ("/file", "bytes=120000-")
    assert target.read_bytes() == CONTENT


def test_a_folder_that_is_gone_is_an_output_error(web: Web, target: Path) -> None:
    shutil.rmtree(target.parent)
    with pytest.raises(OutputError, match="cannot write"):
        get(describe(web.put("/file", CONTENT)), target)


def test_an_endless_answer_is_not_taken_beyond_what_the_file_can_have(web: Web, target: Path, part: Path) -> None:
    """Neither where the publisher gives a size nor where it gives none."""
    url = web.put("/file", b"", *[pour(bytes(2**20))] * 9)
    with pytest.raises(DataError, match="300000 bytes expected, more sent"):
        get(describe(url), target)
    with pytest.raises(DataError, match="at most 67108864 bytes expected, more sent"):
        get(unknown(url), target)
    assert list(target.parent.iterdir()) == []


def test_an_absurd_length_is_not_begun(web: Web, target: Path, part: Path) -> None:
    url = web.put("/file", b"", *[send(b"", Content_Length=str(10**15))] * 9)
    with pytest.raises(DataError, match="at most 67108864 bytes expected, 1000000000000000 announced"):
        get(unknown(url), target)


def test_a_server_that_drips_is_given_up(web: Web, target: Path) -> None:
    url = web.put("/file", b"", *[pour(b"x", 0.02)] * 9)
    patience = Patience(rounds=2, first_wait_s=0.01, headway_s=0.2)
    with pytest.raises(RemoteError, match=r"sent fewer than 64 KiB in 0\.2 s"):
        fetch(describe(url), target, patience)
