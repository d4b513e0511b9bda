"""Which names were answered, and how often: on disk rather than in memory, so that a million cost nothing."""

import sqlite3


class Ledger:
    """A multiset of names in a private temporary file, which goes away with the process."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = off")
        self._db.execute("CREATE TABLE names (name TEXT PRIMARY KEY, times INTEGER) WITHOUT ROWID")
        self._db.execute("BEGIN")  # one transaction for all: nothing here has to outlive a crash

    def note(self, name: str) -> None:
        """Add `name` once."""
        self._db.execute("INSERT INTO names VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1", (name,))

    def holds(self, name: str) -> bool:
        """Whether `name` is there."""
        return self._db.execute("SELECT 1 FROM names WHERE name = ? AND times > 0", (name,)).fetchone() is not None

    def strike(self, name: str) -> bool:
        """Take `name` away once; False when it is not there."""
        struck = self._db.execute("UPDATE names SET times = times - 1 WHERE name = ? AND times > 0", (name,))
        return struck.rowcount == 1

    def close(self) -> None:
        """Remove it."""
        self._db.close()
