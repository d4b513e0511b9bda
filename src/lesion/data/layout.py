"""Write a dataset in HAM10000's layout, whole or not at all."""

import contextlib
import csv
import errno
import io
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from lesion.data.index import IMAGES, METADATA, Row
from lesion.errors import OutputError
from lesion.files import ensure_folder, hold_lock, write_atomic
from lesion.progress import Progress, track

COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization", "dataset")
RECORD = "import.json"
LOCK = ".dataset.lock"  # of whoever writes a dataset into this folder
STAGING = f".{IMAGES}.importing"
SPARE = 2**20  # bytes for metadata and record, besides the images


def check_places(source: Path, root: Path) -> None:
    """OutputError when `root` holds a dataset already, or one of the two lies inside the other."""
    inner, outer = source.resolve(), root.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise OutputError(
            f"{source} and {root} lie one inside the other", hint="name a ROOT beside SOURCE, not in or around it"
        )
    if root.is_dir():
        with hold_lock(root / LOCK, f"write the dataset {root}"):  # what another command writes is not left over
            _check_free(root)


def _check_free(root: Path) -> None:
    if os.path.lexists(root / METADATA):
        raise OutputError(
            f"{root / METADATA} exists: {root} holds a whole dataset",
            hint="use that one, or name a new folder: a dataset is never mixed with another",
        )
    if os.path.lexists(root / IMAGES):
        raise OutputError(
            f"{root / IMAGES} exists, without {METADATA}",
            hint=f"name a new folder; or, if an import that was killed left it there, delete {root / IMAGES}",
        )


def write_dataset(
    root: Path, files: Mapping[str, Path], rows: Sequence[Row], record: str, link: bool, progress: Progress
) -> None:
    """Copy or link `files` (new name → file) into the image folder, then write `record`, then the metadata.

    An interrupted call leaves nothing; what a killed one left, the next one removes or `check_places` names.

    Raises OutputError when `root` holds a dataset, cannot be written or has too little space, when another process
    writes a dataset there, or when two names differ only in case where the file system does not tell them apart.
    """
    made = not root.exists()
    ensure_folder(root)
    try:
        with hold_lock(root / LOCK, f"write the dataset {root}"):
            _check_free(root)  # again: another import may have ended since the source was read
            _write_dataset(root, files, rows, record, link, progress)
    except BaseException:
        if made:
            with contextlib.suppress(OSError):
                root.rmdir()
        raise


def _write_dataset(
    root: Path, files: Mapping[str, Path], rows: Sequence[Row], record: str, link: bool, progress: Progress
) -> None:
    shutil.rmtree(root / STAGING, ignore_errors=True)
    done = False
    try:
        if not link:
            _check_space(root, files)
        _place(root / STAGING, files, link, progress)
        (root / STAGING).rename(root / IMAGES)
        write_atomic(root / RECORD, record)
        write_atomic(root / METADATA, _format(rows))
        done = True
    except OSError as error:
        raise OutputError(
            f"cannot write {error.filename2 or error.filename or root}: {error.strerror or error}",
            hint="check its permissions and free space" + (", or leave --link out" if link else ""),
        ) from error
    finally:
        if not done:
            for folder in (root / STAGING, root / IMAGES):
                shutil.rmtree(folder, ignore_errors=True)
            (root / RECORD).unlink(missing_ok=True)


def _place(folder: Path, files: Mapping[str, Path], link: bool, progress: Progress) -> None:
    folder.mkdir()
    for name, path in track(progress, files.items(), len(files), "link images" if link else "copy images"):
        try:
            if os.path.lexists(folder / name):
                raise OutputError(
                    f"{folder.parent}: {name} differs from another image only in case", hint=f"rename {path}"
                )
            if link:
                (folder / name).symlink_to(path.resolve())
            else:
                shutil.copyfile(path, folder / name)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise OutputError(
                f"cannot write {name} into {folder.parent}: {error.strerror}",
                hint=f"shorten the name of {path}, or of its folders if --prefix makes names from them",
            ) from error


def _check_space(root: Path, files: Mapping[str, Path]) -> None:
    needed, free = sum(path.stat().st_size for path in files.values()) + SPARE, shutil.disk_usage(root).free
    if needed > free:
        raise OutputError(
            f"{root}: {needed / 2**20:.0f} MiB are needed, {free / 2**20:.0f} MiB are free",
            hint="name a folder on a larger disk, or link the images with --link",
        )


def _format(rows: Sequence[Row]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(row, name) for name in COLUMNS] for row in rows)
    return text.getvalue()
