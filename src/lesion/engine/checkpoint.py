"""Checkpoints: written whole and with their digest, and read only when it still fits."""

import hashlib
import io
import logging
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from lesion.errors import ArtifactError, LesionError, NotFoundError, brief
from lesion.files import write_atomic
from lesion.run import Run

log = logging.getLogger(__name__)
MARK = b"lesion sha256 "
TRAILER = 2 + len(MARK) + 64  # bytes: the length of a ZIP comment, and the comment
NAME = re.compile(r"epoch=(\d+)-val_loss=(\d+\.\d+)\.ckpt")
Content = dict[str, Any]


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values so that `path` is always a whole checkpoint, or the whole one before.

    The SHA-256 of what torch wrote becomes the comment of its ZIP file, so torch.load reads the file as it is.

    Raises OutputError when the disk is full or the folder not writable; the old file is then still there.
    """
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    comment = MARK + hashlib.sha256(buffer.getbuffer()).hexdigest().encode()
    buffer.seek(-2, io.SEEK_END)  # the last two bytes are the length of the comment, 0 until now
    buffer.write(struct.pack("<H", len(comment)) + comment)
    write_atomic(path, buffer.getbuffer())


def read_checkpoint(path: Path) -> Content:
    """The content of a checkpoint that `write_checkpoint` made, its tensors on the CPU; nothing in it is executed.

    Raises NotFoundError without a file, ArtifactError when it is damaged, cut off, or anything else.
    """
    try:
        with path.open("rb") as file:
            _check_digest(file, path)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"no such checkpoint: {path}", hint="name a run folder as `lesion train` wrote it"
        ) from error
    except LesionError:
        raise
    except Exception as error:  # torch raises a dozen classes for a hostile file
        raise _unfit(path, f"cannot be read as one: {brief(error)}") from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise _unfit(path, "holds no weights")
    return content


def _check_digest(file: io.BufferedReader, path: Path) -> None:
    size = file.seek(0, io.SEEK_END)
    file.seek(max(size - TRAILER, 0))
    trailer = file.read()
    if len(trailer) < TRAILER or not trailer[2:].startswith(MARK):
        raise _unfit(path, "does not end with its digest: it was cut off, or something else made it")
    file.seek(0)
    digest, left = hashlib.sha256(), size - TRAILER
    while left and (part := file.read(min(left, 1 << 20))):
        digest.update(part)
        left -= len(part)
    digest.update(b"\0\0")  # what torch wrote there
    if digest.hexdigest().encode() != trailer[2 + len(MARK) :]:
        raise _unfit(path, "is damaged: it is not what was written, by its SHA-256")
    file.seek(0)


def _unfit(path: Path, why: str) -> ArtifactError:
    return ArtifactError(
        f"{path} is not a checkpoint of lesion: it {why}",
        hint="restore it from a copy, or remove it: then the next best, or to resume the one before, is taken",
    )


class CheckpointFiles(CheckpointIO):
    """Lightning's reading and writing of checkpoints, done by this module."""

    def save_checkpoint(self, checkpoint: Content, path: Any, storage_options: Any = None) -> None:
        """Write one, whole or not at all."""
        write_checkpoint(Path(path), checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> Content:
        """Read one onto the CPU, whatever `map_location` says; the strategy moves what it needs."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove one."""
        Path(path).unlink(missing_ok=True)


def epoch_of(path: Path) -> int:
    """The epoch that a checkpoint's name says, counted from 0; -1 for other files."""
    named = NAME.fullmatch(path.name)
    return int(named[1]) if named else -1


def list_checkpoints(run: Run) -> list[Path]:
    """The checkpoints of `run`, newest first."""
    return sorted((path for path in run.checkpoints.glob("*.ckpt") if epoch_of(path) >= 0), key=epoch_of, reverse=True)


def find_last(run: Run, weights: Mapping[str, torch.Tensor]) -> Path | None:
    """The newest usable checkpoint of `run` for a module with these `weights`; None when there is none at all.

    Raises ArtifactError when there are some but none can be used.
    """
    paths, born = list_checkpoints(run), run.read_state().get("created")
    for path in paths:
        try:
            content = read_checkpoint(path)
            if born not in (None, content.get("run")):  # a lost run.json does not condemn what lies beside it
                raise _unfit(path, "belongs to another run")
            if _shapes(content["state_dict"]) != _shapes(weights):
                raise _unfit(path, "belongs to another network")
        except LesionError as error:
            log.warning("%s; the one before is taken", error.message)
            continue
        return path
    if paths:
        raise ArtifactError(
            f"none of the {len(paths)} checkpoints in {run.checkpoints} can be used",
            hint="restore that folder from a copy, or train anew",
        )
    return None


def find_best(run: Run) -> Path:
    """The checkpoint with the lowest validation loss; NotFoundError when the run has none."""
    if (named := run.find_best()) is not None:
        return named
    found = list_checkpoints(run)
    if not found:
        raise NotFoundError(f"no checkpoint in {run.checkpoints}", hint="the run ended before its first epoch did")
    return min(found, key=lambda path: (_loss_of(path), epoch_of(path)))


def _loss_of(path: Path) -> float:
    named = NAME.fullmatch(path.name)
    return float(named[2]) if named else float("inf")


def _shapes(weights: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, "shape", None) for name, value in weights.items()}
