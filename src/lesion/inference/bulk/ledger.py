"""Which names were answered, and how often: on disk rather than in memory, so that a million cost nothing."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from lesion.errors import OutputError


class Ledger:
    """A multiset of names in a private temporary file, which goes away with the process.

    Every method raises OutputError when the folder for temporary files cannot be written, for example because its disk
    is full.
    """

    def __init__(self) -> None:
        with _explain():
            self._db = sqlite3.connect("", isolation_level=None)
            self._db.execute("PRAGMA journal_mode = off")
            self._db.execute("CREATE TABLE names (name TEXT PRIMARY KEY, times INTEGER) WITHOUT ROWID")
            self._db.execute("BEGIN")  # one transaction for all: nothing here has to outlive a crash

    def note(self, name: str) -> None:
        """Add `name` once."""
        with _explain():
            self._db.execute("INSERT INTO names VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1", (name,))

    def holds(self, name: str) -> bool:
        """Whether `name` is there."""
        with _explain():
            found = self._db.execute("SELECT 1 FROM names WHERE name = ? AND times > 0", (name,))
            return found.fetchone() is not None

    def strike(self, name: str) -> bool:
        """Take `name` away once; False when it is not there."""
        with _explain():
            struck = self._db.execute("UPDATE names SET times = times - 1 WHERE name = ? AND times > 0", (name,))
            return struck.rowcount == 1

    def close(self) -> None:
        """Remove it."""
        self._db.close()


@contextmanager
def _explain() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(
            f"cannot write the temporary list of names: {error}",
            hint="free some space in the folder for temporary files, or name another with SQLITE_TMPDIR=FOLDER",
        ) from error
