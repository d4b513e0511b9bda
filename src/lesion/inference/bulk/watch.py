"""Wait for images in a folder."""

import os
import time

from lesion.errors import NotFoundError
from lesion.inference.bulk.ledger import Ledger
from lesion.inference.bulk.sources import Items, walk

ENDS = (b"\xff\xd9", b"IEND\xaeB`\x82")  # how a JPEG and a PNG end


def watch(folder: str, pause: float = 1.0) -> Items:
    """The images below `folder`, once each, and then those that appear there, for ever; looks every `pause` seconds.

    An image that ends like one is complete, and so is one that did not change between two looks. NotFoundError when
    there is no such folder.
    """
    if not os.path.isdir(folder):  # noqa: PTH112
        raise NotFoundError(f"no such folder: {folder}", hint="make it, or check the path")
    seen, sizes = Ledger(), dict[str, tuple[int, int] | None]()
    while True:
        start, before, sizes = time.monotonic(), sizes, {}
        for item in walk(folder):
            if seen.holds(item.name):
                continue
            if isinstance(item.source, str) and not _is_whole(item.source):
                size = sizes[item.name] = _measure(item.source)
                if size is None or size != before.get(item.name):  # it went away, or is new, or grows
                    continue
            seen.note(item.name)
            yield item
        yield None
        time.sleep(max(pause, 5 * (time.monotonic() - start)))  # a folder of a million is not all that there is to do


def _measure(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  see `to_item`
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _is_whole(path: str) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            file.seek(-12, os.SEEK_END)
            return file.read().endswith(ENDS)
    except OSError:
        return False
