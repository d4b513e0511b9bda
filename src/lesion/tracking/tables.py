"""The tables of the store (docs/runs.md); other modules of this package may add theirs to METADATA."""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

VERSION = 1  # grows when an older lesion could no longer read or write the tables
METADATA = MetaData()


def _run() -> Column[int]:
    return Column("run", ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)


schema = Table("lesion_schema", METADATA, Column("version", Integer, primary_key=True))
runs = Table(
    "runs",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, index=True),
    Column("path", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("started", Text, nullable=False),
    Column("updated", Text, nullable=False),
    Column("ended", Text),
    Column("epochs", Integer, nullable=False, default=0),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("born", Float, nullable=False),
    Column("config", Text, nullable=False),
    Index("ix_runs_started", "started"),
    sqlite_autoincrement=True,  # the id of a deleted run is never given to another
)
parameters = Table(
    "parameters", METADATA, _run(), Column("key", Text, primary_key=True), Column("value", Text, nullable=False)
)
facts = Table("facts", METADATA, _run(), Column("key", Text, primary_key=True), Column("value", Text, nullable=False))
# The primary key is the index that curves are read by; without a rowid SQLite keeps the rows in its order.
metrics = Table(
    "metrics",
    METADATA,
    _run(),
    Column("name", Text, primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("value", Float),
    sqlite_with_rowid=False,
)
figures = Table(
    "figures",
    METADATA,
    _run(),
    Column("name", Text, primary_key=True),
    Column("value", Float),
    Column("low", Float),
    Column("high", Float),
)
artifacts = Table(
    "artifacts",
    METADATA,
    _run(),
    Column("path", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("recorded", Text, nullable=False),
)
