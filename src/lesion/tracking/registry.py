"""The registry of models: numbered versions of a name, where each comes from, and which one is in production.

It lives in the store of runs. The files lie beside the store, named by their digest, so that a run can be deleted
while its model serves.
"""

import json
import re
from pathlib import Path
from typing import Any, Self

from sqlalchemy import ColumnElement, Connection, func, insert, inspect, select, text, update

from lesion.artifact import MAX_BYTES, Artifact
from lesion.depot import Address, Depot, publish
from lesion.errors import ArtifactError, CheckFailed, ConfigError, LesionError, NotFoundError, StoreError
from lesion.evaluation import Evaluation as Findings
from lesion.files import ensure_folder, read_regular, write_atomic
from lesion.remote import is_remote
from lesion.run import now, run_of
from lesion.suggest import lookup, nearest
from lesion.tracking.database import Mode, is_sqlite, show_url, store_url
from lesion.tracking.registry_rows import read_promotions, read_versions
from lesion.tracking.registry_tables import aliases, evaluations, promotions, versions
from lesion.tracking.store import Store, digest
from lesion.tracking.tables import facts
from lesion.tracking.versions import (
    ALIASES,
    SPLITS,
    Evaluation,
    Promotion,
    Version,
    find_problem,
    require_name,
    to_figures,
    to_line,
)

FOLDER = "models"
NUMBER = re.compile("[0-9]{1,9}")


class Registry:
    """The models of a store; raises what `open_engine` does."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self.folder = folder
        """Of the files."""

    @classmethod
    def open(cls, store: str | None, runs: Path, mode: Mode) -> Self:
        """The registry in `tracking.store`, or in the store of the folder `runs`."""
        url = store_url(store, runs)
        beside = Path(url.database or "").parent if is_sqlite(url) else runs
        return cls(Store.open(url, mode), beside / FOLDER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._store.close()

    def register(self, model: Path, name: str, artifacts: str | None = None) -> Version:
        """Make the file `model` the next version of `name`; a file that is one already stays that version.

        Either way the evaluations that its run knows of are taken over. With `artifacts`, the address of a folder, the
        file is put there instead of beside the store.

        Raises:
            ConfigError: `name` is no name, or `artifacts` no address.
            NotFoundError, ArtifactError: of the file.
            OutputError, RemoteError: it cannot be copied.
        """
        require_name(name)
        Artifact.read(model)
        content = read_regular(model, MAX_BYTES)
        artifact = Artifact.unpack(content, str(model))
        lineage = self._trace(artifact, model)
        if artifacts:
            lineage["file"] = publish(model, artifact.digest, artifacts)
        else:
            self._keep(artifact.digest, content)
        with self._store.transaction() as connection:
            _lock(connection)
            mine = versions.c.name == name
            version = connection.scalar(select(versions.c.version).where(mine, versions.c.sha256 == artifact.digest))
            if version is None:
                newest = connection.scalar(select(func.max(versions.c.version)).where(mine)) or 0
                if not isinstance(newest, int):
                    raise StoreError(f"{self._place}: a version of {name} is {newest!r}, a number expected")
                version = newest + 1
                about = {"sha256": artifact.digest, "bytes": len(content), "lineage": json.dumps(lineage)}
                connection.execute(insert(versions).values(name=name, version=version, registered=now(), **about))
            elif artifacts:
                self._move(connection, name, version, lineage["file"])
            for each in _read_evaluations(artifact, model):
                _record(connection, artifact.digest, each)
        return self.find(f"{name}@{version}")

    def list_versions(self, name: str | None = None) -> list[Version]:
        """All versions, or those of `name`, by name and newest first; StoreError when a row is malformed."""
        return self._read(*(() if name is None else (versions.c.name == name,)))

    def find(self, reference: str) -> Version:
        """The version that `reference` means, NAME@NUMBER or NAME@ALIAS.

        Raises ConfigError when it is neither, NotFoundError when there is none; the hint names what there is.
        StoreError when a row of this version is malformed.
        """
        if "@" not in reference and (known := self.list_versions(reference)):
            held = [f"{reference}@{alias}" for version in known for alias in version.aliases]
            raise ConfigError(
                f"{reference!r} names no version",
                hint=f"take {' or '.join([*held, f'the newest, {known[0].reference}'])}",
            )
        name, at, word = reference.rpartition("@")
        require_name(name if at else reference)
        found = []
        if NUMBER.fullmatch(word):
            found = self._read(versions.c.name == name, versions.c.version == int(word))
        elif word in ALIASES:
            pointing = select(aliases.c.version).where(aliases.c.name == name, aliases.c.alias == word)
            found = self._read(versions.c.name == name, versions.c.version == pointing.scalar_subquery())
        if not found:
            raise self._not_found(name, word)
        return found[0]

    def _not_found(self, name: str, word: str) -> LesionError:
        known = self.list_versions(name)
        if not known:
            name = name or word
            close = nearest(name, {version.name for version in self.list_versions()})
            return NotFoundError(
                f"no model {name!r} is registered" + (f"; did you mean {close!r}?" if close else ""),
                hint="`lesion models list` shows all; `lesion models register RUN --name NAME` adds one",
            )
        if not NUMBER.fullmatch(word):
            lookup({alias: alias for alias in ALIASES}, word, "alias")
        newest = known[0]
        hint = f"lesion models promote {name} {newest.version} --to {word}"
        return NotFoundError(
            f"{name}@{word} does not exist; {name!r} has {len(known)} versions, the newest is {newest.version}",
            hint=f"take {newest.reference}" if NUMBER.fullmatch(word) else hint,
        )

    def _read(self, *where: ColumnElement[bool]) -> list[Version]:
        with self._store.transaction() as connection:
            if not inspect(connection).has_table(versions.name):
                return []
            return read_versions(connection, self._place, *where)

    @property
    def _place(self) -> str:
        return show_url(self._store.url)

    def find_digest(self, reference: str) -> str:
        """The SHA-256 of the file that `reference` means, from one query; raises what `find` does."""
        name, _, word = reference.rpartition("@")
        number: Any = select(aliases.c.version).where(aliases.c.name == name, aliases.c.alias == word).scalar_subquery()
        if NUMBER.fullmatch(word):
            number = int(word)
        with self._store.transaction() as connection:
            query = select(versions.c.sha256).where(versions.c.name == name, versions.c.version == number)
            found = connection.scalar(query) if inspect(connection).has_table(versions.name) else None
        return str(found or self.find(reference).sha256)

    def locate(self, version: Version) -> Path:
        """The file of `version`, checked to be the one that was registered; else NotFoundError or ArtifactError.

        One that was put elsewhere is fetched into the cache, which raises what `Depot.fetch` does.
        """
        if not re.fullmatch("[0-9a-f]{64}", version.sha256):
            raise ArtifactError(
                f"{version.reference} has no SHA-256 but {version.sha256!r}",
                hint=f"lesion models register FILE --name {version.name}",
            )
        path, again = self._path(version.sha256), f"lesion models register FILE --name {version.name}"
        is_there = path.is_file()
        if is_there and digest(path)[0] == version.sha256:
            return path
        if address := version.lineage.get("file"):
            if not is_remote(address) or Address.parse(address).sha256 != version.sha256:
                raise StoreError(f"the address of {version.reference} is not that of its file: {address}", hint=again)
            return Depot().fetch(address)
        if is_there:
            raise ArtifactError(f"the file of {version.reference} is no longer the registered one: {path}", hint=again)
        raise NotFoundError(f"the file of {version.reference} is missing: {path}", hint=again)

    def promote(self, name: str, word: str, alias: str, force: bool = False) -> Promotion:
        """Let `alias` mean the version `word` (a number, or another alias) of `name`.

        Compared with the version it replaces by the AUROC on the same test split, else on the same validation split.

        Raises:
            CheckFailed: it is worse, or cannot be compared, and `force` is not given.
            Further errors as in `find` and `locate`.
        """
        lookup({each: each for each in ALIASES}, alias, "alias")
        chosen = self.find(f"{name}@{word}")
        self.locate(chosen)
        place = (aliases.c.name == name, aliases.c.alias == alias)
        with self._store.transaction() as connection:
            _lock(connection)
            previous = connection.scalar(select(aliases.c.version).where(*place))
            problem = None
            if previous is not None:
                same = (versions.c.name == name, versions.c.version == previous)
                old = read_versions(connection, self._place, *same)
                if not old:
                    raise StoreError(f"{self._place}: {name}@{alias} is version {previous!r}, which does not exist")
                problem = find_problem(chosen, old[0], alias)
            if problem and not force:
                raise CheckFailed(problem, hint="--force promotes it all the same, and is recorded")
            done = Promotion(name, alias, previous, chosen.version, problem, now())
            if previous is None:
                connection.execute(insert(aliases).values(name=name, alias=alias, version=chosen.version))
            elif previous != chosen.version:
                connection.execute(update(aliases).where(*place).values(version=chosen.version))
            if previous != chosen.version:
                row = {column: getattr(done, column) for column in Promotion.__slots__}
                connection.execute(insert(promotions).values(row))
        return done

    def list_promotions(self, name: str) -> list[Promotion]:
        """Every promotion of `name`, newest first; StoreError when a row is malformed."""
        with self._store.transaction() as connection:
            return read_promotions(connection, self._place, name)

    def record(self, version: Version, report: Findings) -> None:
        """Keep what `version` did on a split."""
        figures = to_figures({name: estimate.value for name, estimate in report.metrics.items()})
        with self._store.transaction() as connection:
            _record(connection, version.sha256, Evaluation(report.split, report.fingerprint, figures))

    def _move(self, connection: Connection, name: str, version: int, address: str) -> None:
        """Let the file of a version be at `address` from now on."""
        same = (versions.c.name == name, versions.c.version == version)
        known = read_versions(connection, self._place, *same)[0].lineage
        connection.execute(update(versions).where(*same).values(lineage=json.dumps({**known, "file": address})))

    def _keep(self, sha: str, content: bytes) -> None:
        kept = self._path(sha)
        if not kept.is_file() or digest(kept)[0] != sha:
            ensure_folder(self.folder)
            write_atomic(kept, content)

    def _path(self, sha: str) -> Path:
        return self.folder / f"{sha}.onnx"

    def _trace(self, artifact: Artifact, model: Path) -> dict[str, str]:
        known, run = artifact.manifest.provenance, run_of(model)
        lineage = {key: known.get(key) for key in ("run", "checkpoint", "config", "split", "data", "lesion")}
        quantization = known.get("quantization")
        lineage["quantized_from"] = quantization.get("source") if isinstance(quantization, dict) else None
        if run:
            lineage["folder"] = run.path.resolve().as_posix()
            if (number := self._store.find_at(run.path)) is not None:
                query = select(facts).where(facts.c.run == number, facts.c.key.in_(("commit", "dirty")))
                with self._store.transaction() as connection:
                    lineage |= {row.key: row.value for row in connection.execute(query)}
        found = {"model": artifact.manifest.name, **lineage}
        return {key: to_line(str(value)) for key, value in found.items() if value}


def _lock(connection: Connection) -> None:
    """Be the only one who changes the registry until the transaction ends; SQLite's lock is taken as it begins."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"LOCK TABLE {versions.name} IN SHARE ROW EXCLUSIVE MODE"))


def _read_evaluations(artifact: Artifact, model: Path) -> list[Evaluation]:
    """The validation in the manifest, and those reports in the run's folder that are of this very file."""
    known, run = artifact.manifest.provenance, run_of(model)
    found = []
    if known.get("split") and isinstance(known.get("validation"), dict):
        found.append(Evaluation("val", to_line(str(known["split"])), to_figures(known["validation"])))
    for split in SPLITS:
        if run is None:
            break
        try:
            report = json.loads(run.report(split).read_text("utf-8"))
            if report["model"] == artifact.identity:
                figures = to_figures({name: estimate["value"] for name, estimate in report["metrics"].items()})
                found.append(Evaluation(split, to_line(str(report["fingerprint"])), figures))
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
        ):  # none, or not by this version of lesion
            continue
    return found


def _record(connection: Connection, sha: str, found: Evaluation) -> None:
    place = {"sha256": sha, "split": found.split, "fingerprint": found.fingerprint}
    same = [evaluations.c[column] == value for column, value in place.items()]
    values = {"figures": json.dumps(found.figures)}
    if not connection.execute(update(evaluations).where(*same).values(values)).rowcount:
        connection.execute(insert(evaluations).values({**place, **values}))
