"""The layout of a run folder, and which run is the newest."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from lesion.errors import ConfigError, NotFoundError, OutputError
from lesion.files import ensure_folder, try_lock, write_atomic

log = logging.getLogger(__name__)
FINISHED = "finished"
LONGEST_NAME = 128  # bytes in UTF-8: files beside the run add to it, and 255 are what most file systems take


@dataclass(frozen=True, slots=True)
class Run:
    """One training: `runs/<date>-<time>-<tier>/` with all that belongs to it."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration, YAML."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """The best and the last checkpoints, named with epoch and validation loss."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The exported file that `predict`, `serve` and `eval` take."""
        return self.path / "model.onnx"

    @property
    def quantized(self) -> Path:
        """The int8 twin of `model`."""
        return self.path / "model.int8.onnx"

    @property
    def quantization(self) -> Path:
        """What the last search for such a twin measured."""
        return self.path / "quantization.json"

    def report(self, split: str) -> Path:
        """The last `eval` of `split`."""
        return self.path / f"eval-{split}.json"

    def summary(self, split: str) -> Path:
        """The ten figures of that report that a pipeline compares."""
        return self.path / f"metrics-{split}.json"

    def answers(self, split: str) -> Path:
        """Its answer for every image."""
        return self.path / f"eval-{split}.csv"

    def page(self, split: str) -> Path:
        """The same report for a reader."""
        return self.path / f"report-{split}.html"

    @property
    def card(self) -> Path:
        """The model card, from the last `eval` of the test split."""
        return self.path / "card.md"

    def read_state(self) -> dict[str, Any]:
        """What run.json says: status, times, best checkpoint, fingerprints; empty when unreadable."""
        try:
            state = json.loads((self.path / "run.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def find_best(self) -> Path | None:
        """The checkpoint that run.json calls the best, if it is a file of the run: run.json may say anything."""
        word = str(self.read_state().get("best_checkpoint"))
        path = self.checkpoints / PurePosixPath(word).name
        return path if word == f"{self.checkpoints.name}/{path.name}" and os.path.isfile(path) else None  # noqa: PTH113

    def write_state(self, **facts: Any) -> None:
        """Merge `facts` into run.json."""
        state = {**self.read_state(), **facts}
        write_atomic(self.path / "run.json", json.dumps(state, indent=2, allow_nan=False))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only process that trains this run; a killed one holds nothing, since the system lets go for it.

        Raises OutputError when another process trains it.
        """
        path = self.path / "run.lock"
        try:
            file = path.open("a+")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}", hint="check its permissions") from error
        with file:
            if not try_lock(file):
                file.seek(0)
                raise OutputError(
                    f"{self.path} is being trained by process {file.read().strip() or 'unknown'}",
                    hint="wait until it ends, or stop it; then try again",
                )
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield
            file.truncate(0)

    @classmethod
    def create(cls, root: Path, tier: str, name: str | None = None) -> "Run":
        """Make a run folder under `root`, called `name` or after the time and the tier.

        Raises ConfigError when `name` is more than the name of a folder, OutputError when the folder cannot be made
        or holds files already.
        """
        if name is not None and (expected := find_name_problem(name)):
            raise ConfigError(f"name: {expected} expected, got {name!r}", hint="for example: name=first-try")
        ensure_folder(root)
        run = cls(_unused(root, f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{tier}") if name is None else root / name)
        if (run.path / "run.json").exists():
            raise OutputError(f"{run.path} already holds a run", hint="choose another name, or remove that folder")
        ensure_folder(run.checkpoints)
        # Pictures and reports of an earlier run may stay: `dvc repro` removes only what its pipeline declares.
        for path in (run.config, run.model, *sorted(run.checkpoints.iterdir())):
            if os.path.lexists(path):
                raise OutputError(
                    f"{run.path} is no run and holds {path.name}", hint="choose another name, or remove that folder"
                )
        run.write_state(status="running", created=now())
        return run


def find_name_problem(name: str) -> str:
    """What is expected instead of `name` as the name of a run's folder; empty when it can be one.

    A name is one part of a path and nothing more: a configuration may come from anyone.
    """
    # Surrogates, which UTF-8 does not encode, are not printable.
    whole = name.isprintable() and not set(name) & set("/\\") and not name.startswith((".", "-"))
    if whole and name == name.strip() and 0 < len(name.encode()) <= LONGEST_NAME:
        return ""
    return (
        f"a name of 1 to {LONGEST_NAME} bytes without / and \\, with no '.', '-' or space first, no space last, and "
        "printable characters only"
    )


def _unused(root: Path, stem: str) -> Path:
    """A new folder in `root`; two runs may start within one second."""
    for attempt in range(100):
        path = root / (f"{stem}-{attempt}" if attempt else stem)
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise OutputError(f"cannot make a run folder {stem} in {root}", hint="wait a second, then try again")


def now() -> str:
    """The time in UTC, ISO 8601 to the microsecond, so that runs sort."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def newest_run(root: Path) -> Run:
    """The run under `root` that finished last; NotFoundError when none did."""
    finished = [
        (str(state.get("finished") or ""), run)
        for run in (Run(path.parent) for path in root.glob("*/run.json"))
        if (state := run.read_state()).get("status") == FINISHED and run.model.is_file()
    ]
    if not finished:
        raise NotFoundError(
            f"no finished run in {root}",
            hint="`lesion train` makes one; or name a file with --model, or --runs FOLDER",
        )
    newest = max(finished, key=lambda pair: pair[0])[1]
    log.info("newest finished run: %s", newest.path)
    return newest


def find_run(run: Path | None, runs: Path) -> Run:
    """The run in the folder `run`, or the newest one in `runs`; NotFoundError when there is none."""
    if run is None:
        return newest_run(runs)
    if not os.path.isfile(Run(run).config):  # noqa: PTH113 - Path.is_file raises for a name that is too long
        hint = f"a model file is checked by: lesion export --verify {run}" if os.path.isfile(run) else ""  # noqa: PTH113
        raise NotFoundError(
            f"{run} is not a run folder: it has no config.yaml", hint=hint or f"name a folder below {runs}/"
        )
    return Run(run)


def find_unfinished(run: str | None, runs: Path) -> Run:
    """The run to go on with: a folder, the name of one in `runs`, or the newest there that is not finished.

    Raises NotFoundError when there is none.
    """
    if run is not None:
        return find_run(Path(run) if os.path.isfile(Run(Path(run)).config) else runs / run, runs)  # noqa: PTH113
    states = ((Run(path.parent), Run(path.parent).read_state()) for path in runs.glob("*/run.json"))
    begun = [
        (str(state.get("created") or ""), run)
        for run, state in states
        if state.get("status") != FINISHED and run.config.is_file()
    ]
    if not begun:
        raise NotFoundError(
            f"no unfinished run in {runs}",
            hint="`lesion train` starts one; name one elsewhere: lesion train --resume FOLDER",
        )
    newest = max(begun, key=lambda pair: pair[0])[1]
    log.info("newest unfinished run: %s", newest.path)
    return newest


def find_model(model: Path | None, runs: Path) -> Path:
    """The model file meant: `model` itself, the one in the run folder `model`, or that of the newest run."""
    if model is None:
        return newest_run(runs).model
    return Run(model).model if os.path.isdir(model) else model  # noqa: PTH112 - as in find_run


def run_of(model: Path) -> Run | None:
    """The run that the model file lies in, if any."""
    return Run(model.parent) if os.path.isfile(model.parent / "run.json") else None  # noqa: PTH113
