"""Bearer tokens: hashed, several at once, changed without a restart, and never a 500."""

import ast
import errno
import hashlib
import inspect
import logging
import os
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from lesion.errors import ConfigError, NotFoundError, Unauthorized
from lesion.serve import tokens
from lesion.serve.problems import code_of
from lesion.serve.tokens import Tokens, TokensUnknown, make_token
from tests.serve.changing import wait_until
from tests.serve.conftest import App, problem


def line(token: str, name: str = "") -> str:
    return f"{hashlib.sha256(token.encode()).hexdigest()} {name}".strip()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(
        f"# who may ask\n\n{line('s3cret', 'alice')}  # since May\n{line('other')}\n{line('new', 'alice')}\n"
    )
    return path


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The command line, run by other tests, keeps the log of lesion to itself."""
    monkeypatch.setattr(logging.getLogger("lesion"), "propagate", True)
    caplog.set_level(logging.INFO, "lesion")


class Clock:
    """The time of the tokens."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tokens, "monotonic", clock)
    return clock


def refused(tokens: Tokens, header: str | None) -> bool:
    with pytest.raises(Unauthorized) as caught:
        tokens.check(header)
    assert caught.value.http_status == 401
    assert caught.value.http_headers == {"WWW-Authenticate": "Bearer"}
    return True


def test_several_tokens_are_good_at_once_and_two_may_have_one_name(file: Path) -> None:
    known = Tokens.read(file)
    assert known.check("Bearer s3cret") == known.check("bearer  new ") == "alice"
    assert known.check("BEARER other") == hashlib.sha256(b"other").hexdigest()[:8]


def test_anything_else_is_refused(file: Path) -> None:
    known = Tokens.read(file)
    wrong = ["", " ", "Bearer", "Bearer ", "s3cret", "Basic s3cret", "Bearer s3cre", "Bearer s3crett", "Bearers3cret"]
    wrong += ["Bearer s3cret\n", "Bearer\ts3cret", "Bearer s3cret x", "Bearer s3cret\0", "Bearer s3cr\xe9t"]
    wrong += ["Bearer \ud800", "Bearer ☃", "Bearer " + "x" * 10**6, "x" * 10**6, "Bearer" + " " * 10**6]
    assert all(refused(known, header) for header in [None, *wrong])


@given(st.text())
def test_no_header_is_a_failure_of_the_server(text: str) -> None:
    known = Tokens(Path("none"), ((b"\0" * 32, "nobody"),), None)
    assert refused(known, text)
    assert refused(known, f"Bearer {text}")


def test_the_hash_of_a_token_does_not_let_in(file: Path) -> None:
    assert refused(Tokens.read(file), f"Bearer {hashlib.sha256(b's3cret').hexdigest()}")


def test_every_token_is_compared_whatever_is_sent(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    really = tokens.hmac.compare_digest

    def compare(known: bytes, sent: bytes) -> bool:
        compared.append(known)
        return really(known, sent)

    known = Tokens.read(file)
    monkeypatch.setattr(tokens.hmac, "compare_digest", compare)
    for header in ("Bearer s3cret", "Bearer new", "Bearer wrong"):
        compared.clear()
        try:
            known.check(header)
        except Unauthorized:
            assert header == "Bearer wrong"
        assert len(compared) == 3


def test_no_comparison_of_the_language_touches_a_token() -> None:
    tree = ast.parse(inspect.getsource(tokens))
    (check,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "check"]
    operators = [type(op) for node in ast.walk(check) if isinstance(node, ast.Compare) for op in node.ops]
    assert set(operators) <= {ast.Is, ast.LtE}  # against None, and the length
    (loop,) = [node for node in ast.walk(check) if isinstance(node, ast.For)]
    assert not [node for node in ast.walk(loop) if isinstance(node, ast.Break | ast.Return)]


def test_a_changed_file_is_read_again(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    known = Tokens.read(file)
    new = file.with_name("new")
    new.write_text(line("rotated", "bob"))
    new.replace(file)
    known.refresh()
    assert known.check("Bearer rotated") == "bob"
    assert refused(known, "Bearer s3cret")
    known.refresh()
    assert caplog.messages == ["tokens read again: 1"]


def test_the_same_size_and_time_do_not_hide_a_change(file: Path) -> None:
    file.write_text(line("old"))
    known = Tokens.read(file)
    before = file.stat()
    new = file.with_name("new")
    new.write_text(line("new"))
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(file)
    known.refresh()
    assert known.check("Bearer new")
    assert refused(known, "Bearer old")


def spoil(file: Path, kind: str) -> None:
    """Put something in the place of the file that holds no tokens."""
    contents = {"empty": b"", "comment": b"# nobody\n", "a token": b"s3cret\n", "no text": b"\xff\xfe"}
    contents |= {"no hash": b"abc alice", "two words": b"0" * 64 + b" a b", "huge": b"#" * (tokens.MOST_BYTES + 1)}
    file.unlink()
    if kind in contents:
        file.write_bytes(contents[kind])
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "folder":
        file.mkdir()


KINDS = ["empty", "comment", "a token", "no text", "no hash", "two words", "huge", "pipe", "device", "folder", "gone"]


@pytest.mark.skipif(os.name == "nt", reason="has no pipes with names")
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_outlive_a_file_that_holds_none_for_a_short_time(
    file: Path, clock: Clock, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    known = Tokens.read(file)
    spoil(file, kind)
    for _ in range(3):
        known.refresh()
        assert known.check("Bearer s3cret") == "alice"
    (line_,) = caplog.messages
    assert line_.startswith("the tokens stay as they were, for at most 60 s: serve.tokens:")
    assert "s3cret" not in caplog.text
    clock.now += tokens.GRACE_S + 1
    assert not known.are_known
    for _ in range(2):
        known.refresh()
        with pytest.raises(TokensUnknown) as caught:
            known.check("Bearer s3cret")
    assert (caught.value.http_status, code_of(caught.value)) == (503, "tokens_unknown")
    assert len(caplog.messages) == 2
    if file.is_dir():
        file.rmdir()
    file.unlink(missing_ok=True)
    file.write_text(line("again", "carol"))
    known.refresh()
    assert known.check("Bearer again") == "carol"
    assert refused(known, "Bearer s3cret")
    assert caplog.messages[-1] == "tokens read again: 1"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EIO, errno.ESTALE])
def test_a_revoked_token_does_not_outlive_a_failure_to_read(
    file: Path, clock: Clock, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Tokens.read(file)
    new = file.with_name("new")
    new.write_text(line("rotated", "bob"))
    new.replace(file)
    read = tokens.read_regular

    def fail(*_: object) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tokens, "read_regular", fail)
    known.refresh()
    assert known.check("Bearer s3cret") == "alice"
    monkeypatch.setattr(tokens, "read_regular", read)
    known.refresh()  # nothing about the file has changed since
    assert refused(known, "Bearer s3cret")
    assert known.check("Bearer rotated") == "bob"


def test_tokens_are_not_known_when_nobody_looks_at_the_file_any_more(file: Path, clock: Clock) -> None:
    known = Tokens.read(file)
    clock.now += tokens.GRACE_S + 1  # the thread hangs in a file system, or has ended
    with pytest.raises(TokensUnknown):
        known.check("Bearer s3cret")


def test_a_thread_looks_at_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "LOOK_S", 0.01)
    known = Tokens.read(file)
    known.start()
    new = file.with_name("new")
    new.write_text(line("rotated", "bob"))
    new.replace(file)
    wait_until(lambda: len(known._known) == 1)
    known.close()
    assert known.check("Bearer rotated") == "bob"


@pytest.mark.parametrize("content", ["", "# none", "s3cret", "g" * 64, "0" * 63, "0" * 64 + " two words"])
def test_a_broken_file_is_refused_at_the_start_without_being_shown(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"serve\.tokens") as caught:
        Tokens.read(path)
    assert "s3cret" not in caught.value.message
    assert "--new-token" in caught.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="tokens: No such file"):
        Tokens.read(tmp_path / "tokens")


def test_a_made_token_lets_in(tmp_path: Path) -> None:
    token, written = make_token("alice@ward-3")
    assert token not in written
    path = tmp_path / "tokens"
    path.write_text(written)
    assert Tokens.read(path).check(f"Bearer {token}") == "alice@ward-3"
    assert make_token("alice@ward-3")[0] != token


@pytest.mark.parametrize("name", ["", "a b", "a\n", "#", "é", "x" * 65])
def test_a_name_that_would_break_the_file_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is no name"):
        make_token(name)


def test_readiness_and_requests_tell_that_the_tokens_are_not_known(file: Path, clock: Clock, make_app: App) -> None:
    app = make_app(tokens=str(file))
    client, header = TestClient(app), {"authorization": "Bearer s3cret"}
    assert client.get("/v1/model", headers=header).status_code == 200
    assert client.get("/readyz").json()["status"] == "ready"
    clock.now += tokens.GRACE_S + 1
    response = client.get("/v1/model", headers=header)
    assert problem(response, 503)["code"] == "tokens_unknown"
    assert response.headers["retry-after"] == f"{tokens.RETRY_S:.0f}"
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (503, "no_tokens")
    app.state.service.tokens.refresh()
    assert client.get("/v1/model", headers=header).status_code == 200
