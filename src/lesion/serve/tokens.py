"""Bearer tokens: a file of their SHA-256, read again when it changes; a token itself is stored nowhere."""

import hashlib
import hmac
import logging
import re
import secrets
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Self

from lesion.errors import ConfigError, LesionError, NotFoundError, Overloaded, Unauthorized, brief
from lesion.files import read_regular

log = logging.getLogger(__name__)
LOOK_S = 1.0  # between two looks at the file
GRACE_S = 60.0  # for which tokens are good while their file cannot be read
RETRY_S = 5.0  # after which a client may ask again when the tokens are not known
MOST_BYTES = 2**20
LONGEST = 1000  # characters of a header; a longer one is not even hashed
HINT = "`lesion serve --new-token NAME` makes a token and prints its line"
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_LINE = re.compile(rf"([0-9a-fA-F]{{64}})(?:\s+({_NAME.pattern}))?")
_HEADER = re.compile(r"bearer +([\x21-\x7e]+) *", re.IGNORECASE)
Known = tuple[tuple[bytes, str], ...]  # digest of a token, its id
Stamp = tuple[int, int, int, int]


def make_token(name: str) -> tuple[str, str]:
    """A new token of 256 random bits, and the line for the file that lets it in as `name`.

    Raises ConfigError when `name` is not made of 1 to 64 of the characters A-Z a-z 0-9 . _ @ -
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name of a token", hint="use 1 to 64 of the characters A-Z a-z 0-9 . _ @ -")
    token = f"lesion_{secrets.token_urlsafe(32)}"
    # Nothing slower than SHA-256 is needed: there are 2**256 tokens to try, unlike passwords.
    return token, f"{hashlib.sha256(token.encode()).hexdigest()} {name}"


class TokensUnknown(Overloaded):
    """The file of tokens could not be read for too long."""


class Tokens:
    """Who may ask. Several tokens are good at once; one name may have several, while it changes from old to new.

    A thread looks at the file each LOOK_S. While the file is missing, unreadable or malformed, the tokens from before
    are good for GRACE_S; then nobody is let in until the file is good again. So a token that was revoked does not
    outlive a failure to read the file, and a short failure refuses nobody.
    """

    def __init__(self, path: Path, known: Known, stamp: Stamp | None) -> None:
        self._path, self._known, self._stamp = path, known, stamp
        self._good = monotonic()  # when the file was last seen to hold what is known
        self._failing = self._expired = False
        self._closed = Event()

    @classmethod
    def read(cls, path: Path) -> Self:
        """The tokens of a file with one `SHA256 [NAME]` per line; empty lines and what follows # do not count.

        Raises NotFoundError when the file cannot be read, and ConfigError when a line is not understood or there is no
        token.
        """
        stamp = _stamp(path)  # before the content, so that a change between the two is seen later
        return cls(path, _parse(path), stamp)

    def start(self) -> None:
        """Begin to look at the file, in a thread: a file system that does not answer must not stop the event loop."""
        Thread(target=self._run, name="tokens", daemon=True).start()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    @property
    def are_known(self) -> bool:
        """Whether the file was seen to be good within the last GRACE_S."""
        return monotonic() - self._good <= GRACE_S

    def check(self, authorization: str | None) -> str:
        """The id of the token in an Authorization header: its name, or the first 8 digits of its SHA-256.

        Raises Unauthorized when there is none, or one that is not known, and TokensUnknown when nobody can tell.
        """
        if not self.are_known:
            raise TokensUnknown(
                "the server cannot read its list of tokens", hint="ask again later", retry_after_s=RETRY_S
            )
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

    def refresh(self) -> None:
        """Read the file again when it changed, or when it could not be read before; raises nothing."""
        began = monotonic()
        try:
            stamp = _stamp(self._path)
            changed = stamp is None or stamp != self._stamp
            if changed:
                self._known = _parse(self._path)
                self._stamp = stamp
        except Exception as error:  # whatever it is, the thread goes on and tries again
            self._fail(error)
            return
        self._good = began
        if changed or self._failing:
            log.info("tokens read again: %d", len(self._known))
        self._failing = self._expired = False

    def _run(self) -> None:
        while not self._closed.wait(LOOK_S):
            self.refresh()

    def _fail(self, error: Exception) -> None:
        """Say at the first failure that the tokens stay, and when they do not any more."""
        reason = error.message if isinstance(error, LesionError) else f"{type(error).__name__}: {brief(error)}"
        if not self._failing:
            log.error("the tokens stay as they were, for at most %.0f s: %s", GRACE_S, reason)
        elif not (self._expired or self.are_known):
            self._expired = True
            log.error("nobody is let in until the file of tokens is good: %s", reason)
        self._failing = True


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _parse(path: Path) -> Known:
    try:
        lines = read_regular(path, MOST_BYTES).decode("utf-8-sig").splitlines()
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
