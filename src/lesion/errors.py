"""The tree of deliberate errors; each class owns its exit code and its HTTP status.

    LesionError            exit  HTTP   when
    ├── CheckFailed           1   500   a gate, a parity check or a self-test did not pass
    ├── ConfigError           2   400   a word, key or value of the user's is wrong
    ├── MissingExtra          3   500   the command needs an optional part that is not installed
    ├── DataError            65   400   a dataset is damaged, inconsistent or too small
    │   └── ImageError       65   422   an image cannot be used
    │       ├── ImageTooLarge 65  413   … because it is too large
    │       └── NotAnImage   65   415   … because it is no JPEG or PNG
    ├── ArtifactError        65   500   a model file is not ours, damaged or from a newer version
    ├── StoreError           65   500   a store of runs is not ours, damaged or from a newer version
    ├── NotFoundError        66   404   a file, folder or run does not exist
    ├── RemoteError          69   503   something outside this machine did not answer
    ├── NonFiniteError       70   500   training produced NaN or infinity
    ├── OutOfMemory          71   503   the memory of the machine or of its accelerator does not suffice
    ├── OutputError          74   500   a result could not be written
    ├── Overloaded           75   503   the server has more to do than it can, or is about to stop
    │   └── TooManyRequests  75   429   … for this client: it asks more often than it may
    ├── Unauthorized         77   401   a request carries no token, or one that is not known
    └── Interrupted         130   503   the user stopped it (Ctrl-C)
        └── Terminated      143   503   … or the system did (SIGTERM)

Exit 0 is success; 75 and 77 answer requests, and `lesion serve` ends with 75 when all of its threads hang. What is not
in this tree is a bug of ours and keeps its traceback.
"""

import math
from collections.abc import Sequence


def brief(error: BaseException) -> str:
    """The first line of a library's error, or its class when it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class LesionError(Exception):
    """What happened, to which thing, what was expected; `hint` says what to do."""

    exit_code = 1
    http_status = 500

    def __init__(self, message: str | Sequence[str], hint: str = "") -> None:
        """Keep `message`, one line or several, and `hint`.

        Several lines come as a list: a line end within a string belongs to some name, and is shown escaped.
        """
        self.lines = (message,) if isinstance(message, str) else tuple(message)
        self.message = "\n".join(self.lines)
        self.hint = hint
        super().__init__(self.message)

    @property
    def http_headers(self) -> dict[str, str]:
        """What an HTTP answer with this error carries besides its status."""
        return {}


class CheckFailed(LesionError):
    """A gate, a parity check or a self-test did not pass."""


class ConfigError(LesionError):
    """A word, key or value of the user's is wrong."""

    exit_code = 2
    http_status = 400


class MissingExtra(LesionError):
    """The command needs an optional part that is not installed."""

    exit_code = 3


class DataError(LesionError):
    """A dataset is damaged, inconsistent or too small."""

    exit_code = 65
    http_status = 400


class ImageError(DataError):
    """An image cannot be used."""

    http_status = 422


class ImageTooLarge(ImageError):
    """An image has more bytes or pixels than allowed."""

    http_status = 413


class NotAnImage(ImageError):
    """The bytes are no JPEG or PNG."""

    http_status = 415


class ArtifactError(LesionError):
    """A model file is not ours, damaged, or from a newer version."""

    exit_code = 65


class StoreError(LesionError):
    """A store of runs is not ours, damaged, or from a newer version."""

    exit_code = 65


class NotFoundError(LesionError):
    """A file, folder or run does not exist."""

    exit_code = 66
    http_status = 404


class RemoteError(LesionError):
    """Something outside this machine did not answer."""

    exit_code = 69
    http_status = 503


class NonFiniteError(LesionError):
    """Training produced NaN or infinity."""

    exit_code = 70


class OutOfMemory(LesionError):
    """The memory of the machine or of its accelerator does not suffice."""

    exit_code = 71
    http_status = 503


class OutputError(LesionError):
    """A result could not be written."""

    exit_code = 74


class Overloaded(LesionError):
    """The server has more to do than it can, or is about to stop; `retry_after_s` says when to ask again."""

    exit_code = 75
    http_status = 503

    def __init__(self, message: str | Sequence[str], hint: str = "", retry_after_s: float = 1) -> None:
        super().__init__(message, hint)
        self.retry_after_s = retry_after_s

    @property
    def http_headers(self) -> dict[str, str]:
        """Retry-After, in whole seconds, at least one."""
        return {"Retry-After": str(max(1, math.ceil(self.retry_after_s)))}


class TooManyRequests(Overloaded):
    """A client asks more often than it may."""

    http_status = 429


class Unauthorized(LesionError):
    """A request carries no token, or one that is not known."""

    exit_code = 77
    http_status = 401

    @property
    def http_headers(self) -> dict[str, str]:
        """The scheme that is expected (RFC 6750)."""
        return {"WWW-Authenticate": "Bearer"}


class Interrupted(LesionError):
    """The user stopped it."""

    exit_code = 130
    http_status = 503


class Terminated(Interrupted):
    """The system asked it to stop (SIGTERM)."""

    exit_code = 143
