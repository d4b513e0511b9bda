"""One small training that the tests of this folder share."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lesion.config.load import load_config
from lesion.config.schema import Config
from lesion.records import TrainReport
from lesion.run import Run

QUICK = ("preprocess.size=32", "trainer.epochs=3", "trainer.batch_size=16", "optim.lr=0.003", "trainer.accelerator=cpu")


@dataclass(frozen=True)
class Trained:
    """A finished run and how it came about."""

    config: Config
    report: TrainReport
    run: Run


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Threads of torch that wait for each other on a busy machine make small batches many times slower."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def quick(ham_root: Path, tmp_path: Path) -> Config:
    """A configuration that trains in seconds, into a folder of the test's own."""
    return load_config(overrides=[f"data.root={ham_root}", f"runs={tmp_path / 'runs'}", *QUICK])


@pytest.fixture(scope="session")
def trained(ham_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A finished run; read-only for tests."""
    from lesion.engine.train import train

    runs = tmp_path_factory.mktemp("trained") / "runs"
    config = load_config(overrides=[f"data.root={ham_root}", f"runs={runs}", *QUICK])
    report = train(config)
    return Trained(config, report, Run(Path(report.run)))


@pytest.fixture
def run_copy(trained: Trained, tmp_path: Path) -> Run:
    """The finished run, to be damaged."""
    import shutil

    return Run(Path(shutil.copytree(trained.run.path, tmp_path / "copied" / trained.run.path.name)))
