"""Places outside this machine: gs://, s3://, https:// and all else that fsspec knows."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from lesion.errors import MissingExtra, OutputError, RemoteError, brief
from lesion.redaction import redact

T = TypeVar("T")


def is_remote(place: str) -> bool:
    """Whether `place` is an address such as gs://bucket/image.jpg rather than a path."""
    return "://" in place


def connect(address: str, extra: str = "store") -> tuple[Any, str]:
    """The file system of `address`, and the path in it.

    Raises MissingExtra without fsspec, which `extra` brings, or the part of it for this kind of address; RemoteError
    when it cannot be used.
    """
    shown = redact(address)
    if find_spec("fsspec") is None:
        raise MissingExtra(
            f"{shown} needs the {extra!r} extra: fsspec not installed", hint=f'pip install "lesion[{extra}]"'
        )
    from fsspec.core import url_to_fs

    try:
        fs, path = url_to_fs(address)
    except ImportError as error:
        raise MissingExtra(f"{shown} needs a package: {brief(error)}", hint='pip install "lesion[store]"') from error
    except Exception as error:  # every file system has its own
        raise RemoteError(f"cannot use {shown}: {brief(error)}", hint="check the address and your access") from error
    return fs, path


def upload(file: Path, address: str, hint: str = "check your access") -> None:
    """Put the whole of `file` at `address`; OutputError when that fails."""
    fs, path = connect(address)
    try:
        fs.put_file(str(file), path)
    except Exception as error:
        raise OutputError(f"cannot write {redact(address)}: {redact(brief(error))}", hint=hint) from error


def within(seconds: float, work: Callable[[], T], what: str, progress: Callable[[], object] = lambda: None) -> T:
    """What `work` returns or raises; RemoteError when `progress` says the same after `seconds` as before them.

    Libraries for object stores try for minutes before they give up. The work itself goes on, and ends unnoticed.
    """
    outcome: Future[T] = Future()
    Thread(target=_run, args=(work, outcome), name="remote", daemon=True).start()
    seen = progress()
    while wait([outcome], seconds).not_done:
        if seen == (seen := progress()):
            raise RemoteError(f"{what} has not answered for {seconds:g} s", hint="check the network")
    return outcome.result()


def _run(work: Callable[[], T], outcome: "Future[T]") -> None:
    try:
        outcome.set_result(work())
    except BaseException as error:
        outcome.set_exception(error)
