"""Wait for images in a folder."""

import os
import time
from collections.abc import Iterator

from lesion.errors import NotFoundError
from lesion.files import open_regular
from lesion.inference.bulk.items import Item
from lesion.inference.bulk.ledger import Ledger
from lesion.inference.bulk.sources import Items, walk

ENDS = (b"\xff\xd9", b"IEND\xaeB`\x82")  # how a JPEG and a PNG end
PATIENCE_S = 30.0  # for a file whose end is missing, since it last changed
PART = 1000  # images after which all that came before is answered
Stamp = tuple[int, int, int, int]


class Watcher:
    """The images in a folder and those that appear there."""

    def __init__(self, folder: str, pause: float = 1.0, patience: float = PATIENCE_S) -> None:
        """Watch `folder`, with a look every `pause` seconds, and `patience` seconds for a file without its end."""
        self.folder = folder
        self._pause = pause
        self._patience = patience
        self._seen = Ledger()
        self._failed = Ledger()  # names with the stamps that could not be read
        self._given: dict[str, Stamp | None] = {}
        self._waiting: dict[str, tuple[Stamp, float]] = {}

    def find(self) -> Items:
        """The images below the folder, and then those that appear, for ever; NotFoundError when there is no folder.

        An image that ends like a JPEG or PNG is complete. One without its end, or empty, is given when it has not
        changed for `patience` seconds: it may be a copy that pauses.
        """
        if not os.path.isdir(self.folder):  # noqa: PTH112
            raise NotFoundError(f"no such folder: {self.folder}", hint="make it, or check the path")
        while True:
            walked = 0.0
            items, before, self._waiting = walk(self.folder), self._waiting, {}
            while True:
                start = time.monotonic()
                item = self._next(items, before)
                walked += time.monotonic() - start  # without the time that answering takes
                if item is None:
                    break
                self._seen.note(item.name)
                yield item
                if len(self._given) >= PART:
                    yield None
                    self._given.clear()
            yield None
            self._given.clear()
            time.sleep(max(self._pause, 5 * walked))  # a folder of a million files is not walked all the time

    def try_again(self, name: str) -> None:
        """Give the image `name`, which could not be read, again as soon as it has changed."""
        if name in self._given and self._seen.strike(name):
            self._failed.note(_to_key(name, self._given[name]))

    def _next(self, items: Iterator[Item], before: dict[str, tuple[Stamp, float]]) -> Item | None:
        for item in items:
            if self._seen.holds(item.name):
                continue
            stamp = _measure(item.source) if isinstance(item.source, str) else None
            if self._failed.holds(_to_key(item.name, stamp)):
                continue
            if isinstance(item.source, str):
                if stamp is None:  # it went away
                    continue
                if not self._is_ready(item.name, item.source, stamp, before):
                    continue
            self._given[item.name] = stamp
            return item
        return None

    def _is_ready(self, name: str, path: str, stamp: Stamp, before: dict[str, tuple[Stamp, float]]) -> bool:
        try:
            with open_regular(path) as file:
                file.seek(max(file.seek(0, os.SEEK_END) - 12, 0))
                if file.read().endswith(ENDS):
                    return True
        except OSError:  # which its answer says; when it can be read later, its stamp has changed
            return True
        known, since = before.get(name, (None, 0.0))
        if known != stamp:
            since = time.monotonic()
        self._waiting[name] = (stamp, since)
        return known == stamp and time.monotonic() - since >= self._patience


def _to_key(name: str, stamp: Stamp | None) -> str:
    return f"{stamp} {name}"


def _measure(path: str) -> Stamp | None:
    """What changes when a file does: its size, the times of its content and permissions, and which file it is."""
    try:
        found = os.stat(path)  # noqa: PTH116  see `to_item`
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
