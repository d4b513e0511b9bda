"""Checkpoints are whole or absent, whatever happens; anything else is refused and never executed."""

import errno
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from lesion.engine.checkpoint import (
    CheckpointFiles,
    epoch_of,
    find_best,
    find_last,
    list_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from lesion.errors import ArtifactError, NotFoundError, OutputError
from lesion.run import Run

WEIGHTS = {"layer.weight": torch.arange(6.0).reshape(2, 3)}
CONTENT = {"state_dict": WEIGHTS, "epoch": 3, "callbacks": {"x": [1, 2.5, None, "text", True]}}


def write(run: Run, epoch: int, loss: float, content: dict[str, Any] | None = None) -> Path:
    path = run.checkpoints / f"epoch={epoch:02d}-val_loss={loss:.4f}.ckpt"
    write_checkpoint(path, {**CONTENT, "run": run.read_state()["created"], **(content or {})})
    return path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, "x")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    files = CheckpointFiles()
    files.save_checkpoint(CONTENT, str(path))
    read = files.load_checkpoint(str(path), map_location="nowhere", weights_only=False)
    assert torch.equal(read["state_dict"]["layer.weight"], WEIGHTS["layer.weight"])
    assert {key: value for key, value in read.items() if key != "state_dict"} == {
        key: value for key, value in CONTENT.items() if key != "state_dict"
    }
    assert [each.name for each in tmp_path.iterdir()] == ["a.ckpt"]
    files.remove_checkpoint(str(path))
    files.remove_checkpoint(str(path))
    assert list(tmp_path.iterdir()) == []


def test_other_tools_read_it_as_it_is(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.ckpt", CONTENT)
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["epoch"] == 3
    with zipfile.ZipFile(tmp_path / "a.ckpt") as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(b"lesion sha256 ")


def test_every_flipped_byte_and_every_cut_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    write_checkpoint(path, CONTENT)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with pytest.raises(ArtifactError, match=r"damaged|digest"):
            read_checkpoint(path)
        path.write_bytes(whole[:place])
        with pytest.raises(ArtifactError, match="digest"):
            read_checkpoint(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ArtifactError):
        read_checkpoint(path)


class Bomb:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.canary,)


def test_a_checkpoint_with_code_and_a_right_digest_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "a.ckpt"
    for content in ({"state_dict": Bomb(canary)}, {"state_dict": {}, "callbacks": Bomb(canary)}):
        write_checkpoint(path, content)
        with pytest.raises(ArtifactError, match="cannot be read as one"):
            read_checkpoint(path)
    for raw in (pickle.dumps(Bomb(canary)), pickle.dumps(Bomb(canary)) + b"PK\x05\x06" + b"\0" * 18):
        path.write_bytes(raw)
        with pytest.raises(ArtifactError, match="digest"):
            read_checkpoint(path)
    assert not canary.exists()
    pickle.loads(pickle.dumps(Bomb(canary)))  # the bomb is live
    assert canary.exists()


@pytest.mark.parametrize(
    "raw",
    [b"", b"x", b"PK\x05\x06" + b"\0" * 18, b"lesion sha256 " + b"0" * 64, b"epoch: 3\n" * 100, bytes(range(256)) * 4,
     b"\x80\x04" + b"\0" * 200],
    ids=["empty", "one byte", "empty zip", "digest only", "text", "binary", "pickle"],
)  # fmt: skip
def test_other_files_are_refused(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(raw)
    with pytest.raises(ArtifactError) as caught:
        read_checkpoint(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_folders_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        read_checkpoint(tmp_path)
    with pytest.raises(NotFoundError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "absent")


@pytest.mark.parametrize("content", [{}, {"state_dict": 3}, {"weights": WEIGHTS}])
def test_content_without_weights_is_refused(content: dict[str, Any], tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.ckpt", content)
    with pytest.raises(ArtifactError, match="holds no weights"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_full_disk_leaves_the_one_before_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ckpt"
    write_checkpoint(path, CONTENT)

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OutputError, match="No space left") as caught:
        write_checkpoint(path, {**CONTENT, "epoch": 4})
    assert caught.value.exit_code == 74
    assert read_checkpoint(path)["epoch"] == 3
    assert [each.name for each in tmp_path.iterdir()] == ["a.ckpt"]


def test_only_names_of_ours_are_checkpoints_and_the_newest_comes_first(run: Run) -> None:
    write(run, 9, 0.5)
    write(run, 100, 0.25)
    write(run, 10, 1.0)
    for name in ("last.ckpt", "epoch=1.ckpt", "epoch=03-val_loss=nan.ckpt", ".epoch=04-val_loss=1.0000.ckpt.x"):
        (run.checkpoints / name).write_bytes(b"")
    assert [epoch_of(path) for path in list_checkpoints(run)] == [100, 10, 9]
    assert epoch_of(run.checkpoints / "last.ckpt") == -1


def test_the_last_usable_one_is_found_and_the_others_are_named(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    assert find_last(run, WEIGHTS) is None
    good = write(run, 1, 0.9)
    write(run, 2, 0.8).write_bytes(b"damaged")
    write(run, 3, 0.7, {"state_dict": {"layer.weight": torch.ones(3, 2)}})
    write(run, 4, 0.6, {"run": "another"})
    write(run, 5, 0.5, {"state_dict": {"other": torch.ones(2, 3)}})
    assert find_last(run, WEIGHTS) == good
    for words in ("digest", "another network", "another run"):
        assert words in caplog.text
    assert caplog.text.count("the one before is taken") == 4


def test_without_a_usable_one_a_run_is_not_silently_started_anew(run: Run) -> None:
    write(run, 2, 0.8).write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="none of the 1 checkpoints") as caught:
        find_last(run, WEIGHTS)
    assert "train anew" in caught.value.hint


def test_a_lost_run_json_does_not_condemn_checkpoints(run: Run) -> None:
    path = write(run, 2, 0.8)
    (run.path / "run.json").unlink()
    assert find_last(run, WEIGHTS) == path


def test_the_best_is_the_one_that_run_json_names_else_the_lowest_loss(run: Run) -> None:
    with pytest.raises(NotFoundError, match="no checkpoint"):
        find_best(run)
    paths = [write(run, epoch, loss) for epoch, loss in enumerate((0.3, 0.1, 0.1, 10.5))]
    assert find_best(run) == paths[1]
    run.write_state(best_checkpoint=f"checkpoints/{paths[2].name}")
    assert find_best(run) == paths[2]
    paths[2].unlink()
    assert find_best(run) == paths[1]


@pytest.mark.parametrize(
    "word", ["../x.ckpt", "{tmp}/x.ckpt", "checkpoints/../../x.ckpt", "checkpoints/..", "a\0", 5, None]
)
def test_run_json_names_no_file_outside_the_checkpoints(word: object, run: Run, tmp_path: Path) -> None:
    path = write(run, 0, 0.3)
    for outside in (tmp_path / "x.ckpt", run.path.parent / "x.ckpt", run.path / "x.ckpt"):
        outside.write_bytes(path.read_bytes())
    run.write_state(best_checkpoint=word.format(tmp=tmp_path) if isinstance(word, str) else word)
    assert run.find_best() is None
    assert find_best(run) == path
