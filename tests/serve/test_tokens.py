"""Bearer tokens: hashed, several at once, changed without a restart, and never a 500."""

import ast
import hashlib
import inspect
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lesion.errors import ConfigError, NotFoundError, Unauthorized
from lesion.serve import tokens
from lesion.serve.tokens import Tokens, make_token


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


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every check looks at the file."""
    monkeypatch.setattr(tokens, "LOOK_S", 0.0)


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


def test_a_changed_file_is_read_again(file: Path, impatient: None, caplog: pytest.LogCaptureFixture) -> None:
    known = Tokens.read(file)
    new = file.with_name("new")
    new.write_text(line("rotated", "bob"))
    new.replace(file)
    assert known.check("Bearer rotated") == "bob"
    assert refused(known, "Bearer s3cret")
    assert caplog.messages == ["tokens read again: 1"]


def test_the_same_size_and_time_do_not_hide_a_change(file: Path, impatient: None) -> None:
    file.write_text(line("old"))
    known = Tokens.read(file)
    before = file.stat()
    new = file.with_name("new")
    new.write_text(line("new"))
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(file)
    assert known.check("Bearer new")
    assert refused(known, "Bearer old")


@pytest.mark.parametrize("content", [b"", b"# nobody\n", b"s3cret\n", b"\xff\xfe", b"abc alice", b"0" * 64 + b" a b"])
def test_a_broken_file_leaves_the_tokens_and_says_so_once(
    file: Path, impatient: None, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    known = Tokens.read(file)
    file.write_bytes(content)
    assert [known.check("Bearer s3cret") for _ in range(3)] == ["alice"] * 3
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("the tokens stay as they were: serve.tokens:")
    assert "s3cret" not in caplog.text
    file.write_text(line("again", "carol"))
    assert known.check("Bearer again") == "carol"


def test_a_file_that_vanished_leaves_the_tokens(file: Path, impatient: None, caplog: pytest.LogCaptureFixture) -> None:
    known = Tokens.read(file)
    file.unlink()
    assert [known.check("Bearer s3cret") for _ in range(2)] == ["alice"] * 2
    assert len(caplog.messages) == 1


def test_the_file_is_looked_at_once_a_second(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Tokens.read(file)
    time = tokens.monotonic()
    looks: list[Path] = []
    monkeypatch.setattr(tokens, "_stamp", looks.append)
    monkeypatch.setattr(tokens, "monotonic", lambda: time)
    for _ in range(100):
        known.check("Bearer s3cret")
    assert looks == []
    time += 1.01
    for _ in range(100):
        known.check("Bearer s3cret")
    assert len(looks) == 1


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
