"""The tables of the registry of models (docs/registry.md), in the same store as those of the runs."""

from sqlalchemy import Column, Integer, Table, Text

from lesion.tracking.tables import METADATA

versions = Table(
    "model_versions",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("sha256", Text, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("registered", Text, nullable=False),
    Column("lineage", Text, nullable=False),
)
aliases = Table(
    "model_aliases",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("version", Integer, nullable=False),
)
promotions = Table(
    "model_promotions",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, index=True),
    Column("alias", Text, nullable=False),
    Column("previous", Integer),
    Column("version", Integer, nullable=False),
    Column("forced", Text),
    Column("promoted", Text, nullable=False),
)
# Of a file, whatever its names: what was measured does not depend on how it is called.
evaluations = Table(
    "model_evaluations",
    METADATA,
    Column("sha256", Text, primary_key=True),
    Column("split", Text, primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    Column("figures", Text, nullable=False),
)
