"""What the tests share: a small synthetic dataset, a tiny model without torch, the command line in this process."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lesion.cli.app import main

if TYPE_CHECKING:
    from tests.bucket import Bucket

GOLDEN = Path(__file__).parent / "golden"
REPO = Path(__file__).parents[1]
PATIENCE_S = 600.0  # a guard against hanging, never a measure: machines may be busy with other things
# Threads that wait for each other on a busy machine make small batches many times slower, in what the tests start, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell that starts the tests in the background lets them ignore Ctrl-C, and the programs they start would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def ham_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic dataset in HAM10000's layout, 70 lesions of 120×90 pixels; read-only for tests."""
    from lesion.data.synth import SynthSpec, synthesize

    root = tmp_path_factory.mktemp("data") / "ham10000"
    synthesize(root, SynthSpec(lesions=70, width=120, height=90))
    return root


@pytest.fixture
def ham_copy(ham_root: Path, tmp_path: Path) -> Path:
    """The same dataset without a split, to be damaged."""
    return Path(shutil.copytree(ham_root, tmp_path / "ham10000", ignore=shutil.ignore_patterns("processed")))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A complete model file of 700 bytes that answers from the mean colour."""
    return Path(shutil.copy(GOLDEN / "tiny.onnx", tmp_path / "tiny.onnx"))


@pytest.fixture
def tiny_run(tmp_path: Path) -> Path:
    """A folder `runs` with one finished run that holds the tiny model."""
    from lesion.run import FINISHED, Run, now

    run = Run.create(tmp_path / "runs", "tiny")
    shutil.copy(GOLDEN / "tiny.onnx", run.model)
    run.write_state(status=FINISHED, finished=now())
    return tmp_path / "runs"


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Iterator[type[Bucket]]":
    """A store behind memory://, with the tiny model in it, and an empty cache for what is fetched."""
    pytest.importorskip("fsspec", reason="needs the extra `store`")
    from tests.bucket import Bucket

    monkeypatch.setattr("fsspec.core.filesystem", lambda *_, **__: Bucket(skip_instance_cache=True))
    monkeypatch.setattr("fsspec.core.get_filesystem_class", lambda _: Bucket)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("lesion.remote.FIRST_WAIT_S", 0.0)
    Bucket.reset()
    yield Bucket
    Bucket.reset()


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs `lesion` with the given words in this process. An exception that is no LesionError escapes: a bug."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    return run
