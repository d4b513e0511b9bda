"""Which checkpoints of a run stay."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lesion.engine.checkpoint import epoch_of, list_checkpoints, read_checkpoint, write_checkpoint
from lesion.engine.keeper import Keeper, require_space
from lesion.errors import OutputError
from lesion.run import Run


class FakeTrainer:
    """What a Keeper asks of Lightning's Trainer."""

    is_global_zero = True

    def __init__(self, keeper: Keeper, losses: list[float], start: int = 0) -> None:
        self.keeper = keeper
        self.fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(is_last_batch=True)))
        for self.current_epoch, loss in enumerate(losses, start):
            self.callback_metrics = {"val_loss": torch.tensor(loss, dtype=torch.float64)}
            keeper.on_train_epoch_end(self, None)  # type: ignore[arg-type]

    def save_checkpoint(self, path: Path) -> None:
        content: dict[str, Any] = {"state_dict": {}, "callbacks": self.keeper.state_dict()}
        self.keeper.on_save_checkpoint(self, None, content)  # type: ignore[arg-type]
        write_checkpoint(path, content)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, "x")


@pytest.mark.parametrize(
    ("losses", "kept", "best"),
    [
        ([0.5], [0], 0),
        ([0.5, 0.4, 0.3, 0.2, 0.1], [2, 3, 4], 4),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0, 1, 2, 4, 5], 0),
        ([0.3, 0.1, 0.1, 0.1, 0.1, 0.1], [1, 2, 3, 4, 5], 1),
        ([0.12341, 0.12340, 0.5, 0.6], [0, 1, 2, 3], 1),
    ],
    ids=["one", "falling", "rising", "equal", "equal in the name"],
)
def test_the_best_three_and_the_last_two_stay(losses: list[float], kept: list[int], best: int, run: Run) -> None:
    keeper = Keeper(run)
    FakeTrainer(keeper, losses)
    assert sorted(epoch_of(path) for path in list_checkpoints(run)) == kept
    assert keeper.best_epoch == best
    state = run.read_state()
    assert state["best_checkpoint"] == keeper.name(best)
    assert state["best_val_loss"] == losses[best]
    assert state["epochs"] == len(losses)


def test_a_resumed_keeper_decides_as_one_that_never_stopped(tmp_path: Path) -> None:
    losses = [0.5, 0.2, 0.7, 0.1, 0.6, 0.3, 0.15]
    whole, broken = Run.create(tmp_path / "a", "x"), Run.create(tmp_path / "b", "x")
    FakeTrainer(Keeper(whole), losses)
    for stop in range(1, len(losses)):
        FakeTrainer(Keeper(broken), losses[:stop])
        keeper = Keeper(broken)
        keeper.load_state_dict(read_checkpoint(list_checkpoints(broken)[0])["callbacks"])
        FakeTrainer(keeper, losses[stop:], stop)
        assert {path.name for path in list_checkpoints(broken)} == {path.name for path in list_checkpoints(whole)}


def test_remains_of_killed_processes_go_and_other_files_stay(run: Run) -> None:
    (run.checkpoints / ".epoch=00-val_loss=0.5000.ckpt.abc").write_bytes(b"half")
    (run.checkpoints / "epoch=00-val_loss=0.9000.ckpt").write_bytes(b"damaged, of an epoch that was trained again")
    (run.checkpoints / "notes.txt").write_text("mine")
    FakeTrainer(Keeper(run), [0.5])
    assert {path.name for path in run.checkpoints.iterdir()} == {"epoch=00-val_loss=0.5000.ckpt", "notes.txt"}


def test_when_writing_fails_nothing_is_removed_and_the_best_is_not_the_lost_one(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Keeper(run)
    FakeTrainer(keeper, [0.4, 0.3, 0.5])
    before = sorted(path.name for path in run.checkpoints.iterdir())

    def fail(*_: object) -> None:
        raise OutputError("disk full")

    monkeypatch.setattr(FakeTrainer, "save_checkpoint", fail)
    with pytest.raises(OutputError):
        FakeTrainer(keeper, [0.1], 3)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == before
    assert keeper.best_epoch == 1


def test_too_little_space_is_said_before_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [torch.zeros(1_000_000), torch.zeros(10, dtype=torch.uint8)]  # 4 MB, so 16 MB a checkpoint
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=90_000_000))
    with pytest.raises(OutputError, match=r"need 96 MB in .*, 90 MB are free") as caught:
        require_space(run.path, weights)
    assert "runs=FOLDER" in caught.value.hint
    require_space(run.path, weights, present=10_000_000)
