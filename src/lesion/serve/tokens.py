"""Bearer tokens: a file of their SHA-256, read again when it changes; a token itself is stored nowhere."""

import hashlib
import hmac
import logging
import re
import secrets
from pathlib import Path
from time import monotonic
from typing import Self

from lesion.errors import ConfigError, LesionError, NotFoundError, Unauthorized

log = logging.getLogger(__name__)
LOOK_S = 1.0  # between two looks at the file
LONGEST = 1000  # characters of a header; a longer one is not even hashed
HINT = "`lesion serve --new-token NAME` makes a token and prints its line"
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_LINE = re.compile(rf"([0-9a-fA-F]{{64}})(?:\s+({_NAME.pattern}))?")
_HEADER = re.compile(r"bearer +([\x21-\x7e]+) *", re.IGNORECASE)
Known = tuple[tuple[bytes, str], ...]  # digest of a token, its id
Stamp = tuple[int, int, int]


def make_token(name: str) -> tuple[str, str]:
    """A new token of 256 random bits, and the line for the file that lets it in as `name`.

    Raises ConfigError when `name` is not made of 1 to 64 of the characters A-Z a-z 0-9 . _ @ -
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name of a token", hint="use 1 to 64 of the characters A-Z a-z 0-9 . _ @ -")
    token = f"lesion_{secrets.token_urlsafe(32)}"
    # Nothing slower than SHA-256 is needed: there are 2**256 tokens to try, unlike passwords.
    return token, f"{hashlib.sha256(token.encode()).hexdigest()} {name}"


class Tokens:
    """Who may ask. Several tokens are good at once; one name may have several, while it changes from old to new."""

    def __init__(self, path: Path, known: Known, stamp: Stamp | None) -> None:
        self._path, self._known, self._stamp = path, known, stamp
        self._next_look = monotonic() + LOOK_S

    @classmethod
    def read(cls, path: Path) -> Self:
        """The tokens of a file with one `SHA256 [NAME]` per line; empty lines and what follows # do not count.

        Raises NotFoundError without the file, and ConfigError when a line is not understood or there is no token.
        """
        stamp = _stamp(path)  # before the content, so that a change between the two is seen later
        return cls(path, _parse(path), stamp)

    def check(self, authorization: str | None) -> str:
        """The id of the token in an Authorization header: its name, or the first 8 digits of its SHA-256.

        Raises Unauthorized when there is none, or one that is not known.
        """
        self._refresh()
        sent = _HEADER.fullmatch(authorization) if authorization and len(authorization) <= LONGEST else None
        if sent is None:
            raise Unauthorized("this server asks for a token", hint="send the header `Authorization: Bearer TOKEN`")
        digest, found = hashlib.sha256(sent[1].encode()).digest(), None
        for known, name in self._known:  # all of them, so that the time tells nothing about which one it was
            if hmac.compare_digest(known, digest):
                found = name
        if found is None:
            raise Unauthorized("the token is not known here", hint="ask whoever runs this server for a new one")
        return found

    def _refresh(self) -> None:
        """Read the file again when it changed; a broken one is reported once, and the tokens before it stay."""
        if monotonic() < self._next_look:
            return
        self._next_look = monotonic() + LOOK_S
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._known = _parse(self._path)
        except LesionError as error:
            log.error("the tokens stay as they were: %s", error.message)
        else:
            log.info("tokens read again: %d", len(self._known))


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _parse(path: Path) -> Known:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise NotFoundError(f"serve.tokens: cannot read {path}: {error.strerror}", hint="check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"serve.tokens: {path} is no text", hint=HINT) from error
    known = []
    for number, line in enumerate(lines, 1):
        if text := line.partition("#")[0].strip():
            match = _LINE.fullmatch(text)
            if match is None:  # the line is not shown: it may be a token itself
                raise ConfigError(f"serve.tokens: line {number} of {path} is no SHA-256 with a name", hint=HINT)
            known.append((bytes.fromhex(match[1]), match[2] or match[1][:8].lower()))
    if not known:
        raise ConfigError(f"serve.tokens: {path} holds no token", hint=HINT)
    return tuple(known)
