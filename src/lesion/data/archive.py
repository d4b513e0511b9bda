"""Take images, tables and licence texts out of a ZIP archive that nobody has to trust."""

import contextlib
import re
import stat
import zipfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lesion.data.index import IMAGES
from lesion.errors import DataError, OutputError
from lesion.files import open_regular, rename
from lesion.progress import Progress, Silent, track

CHUNK = 1 << 20
IMAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.jpe?g", re.IGNORECASE)
TABLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\.csv", re.IGNORECASE)
NOTE_NAME = re.compile(r"(licen[cs]e|attribution|readme|copying)[A-Za-z0-9_-]{0,50}(\.txt|\.md)?", re.IGNORECASE)
DEVICE_NAME = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # files of no disk on Windows
CLUTTER = ("__MACOSX/", ".DS_Store", "Thumbs.db")  # what desktops add
JPEG_START = b"\xff\xd8\xff"


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may ask for at most; HAM10000's need a tenth of it."""

    entries: int = 100_000
    file_bytes: int = 256 * 2**20
    total_bytes: int = 40 * 2**30
    ratio: int = 200
    """Unpacked bytes per packed byte, beyond the first MiB of a file."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file to take out."""

    info: zipfile.ZipInfo
    place: str
    """Where it goes, relative to the dataset, with slashes."""


def extract(
    archive: Path,
    root: Path,
    tables: Collection[str] = (),
    store: str = "downloads",
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Take the images of `archive` into the dataset at `root`, all in one folder.

    Folders inside the archive are dropped, so an image lies at `root/HAM10000_images/NAME.jpg`. Licence texts and the
    tables named `tables` go to `root/store`. Of two equal images of one name the first is taken. The whole list of
    contents is judged before anything is written; each file appears when it is whole; one that is there already, with
    this size and checksum, is kept.

    Returns:
        Place relative to `root` → bytes, of all files taken.

    Raises:
        DataError: the archive is damaged or holds something that no dataset needs; the entry is named.
        OutputError: a file cannot be written.
    """
    try:
        with open_regular(archive) as file, zipfile.ZipFile(file) as opened:
            members = _choose(opened, archive, tables, store, limits or Limits())
            for member in track(progress or Silent(), members, len(members), f"extract {archive.name}"):
                _take(opened, member, root / member.place, archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise DataError(f"{archive} is no intact ZIP archive: {error}", hint="delete it and download again") from error
    return {member.place: member.info.file_size for member in members}


def _choose(
    opened: zipfile.ZipFile, archive: Path, tables: Collection[str], store: str, limits: Limits
) -> list[Member]:
    """What to take, once every entry has been judged."""
    infos = opened.infolist()
    if len(infos) > limits.entries:
        raise DataError(f"{archive}: {len(infos)} entries, at most {limits.entries} expected")
    seen: set[str] = set()
    chosen: dict[str, Member] = {}
    for info in infos:
        if wrong := _find_fault(info, limits) or ("is there twice" if info.filename in seen else ""):
            raise DataError(
                f"{archive}: {info.orig_filename!r} {wrong}", hint="the archive is not what it should be: delete it"
            )
        seen.add(info.filename)
        place = _find_place(info, archive, tables, store)
        if place is None:
            continue
        # Without regard to case: some file systems have none, and Kaggle's archive repeats folders that differ in it.
        key = str(PurePosixPath(place).with_suffix("")).lower()
        first = chosen.setdefault(key, Member(info, place)).info
        if (first.CRC, first.file_size) != (info.CRC, info.file_size) and place.startswith(IMAGES):
            raise DataError(f"{archive}: {first.filename!r} and {info.filename!r} have one name, but differ")
    _limit_sizes(infos, archive, limits)
    return list(chosen.values())


def _find_fault(info: zipfile.ZipInfo, limits: Limits) -> str:
    """Why an entry must not be touched; empty when it may."""
    name = info.orig_filename  # `filename` is cut at a NUL
    kind = stat.S_IFMT(info.external_attr >> 16)
    parts = name.removesuffix("/").split("/")
    if not name or name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "has an absolute path"
    if ".." in parts or "\\" in name or "" in parts or any(ord(letter) < 32 for letter in name):
        return "has a path that leads elsewhere"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR) > info.is_dir():
        return "is neither a file nor a folder"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in an unknown way"
    if info.file_size > limits.file_bytes:
        return f"has {info.file_size} bytes, at most {limits.file_bytes} expected"
    if info.file_size > limits.ratio * info.compress_size + 2**20:
        return f"would grow from {info.compress_size} to {info.file_size} bytes"
    return ""


def _limit_sizes(infos: list[zipfile.ZipInfo], archive: Path, limits: Limits) -> None:
    total = sum(info.file_size for info in infos)
    if total > limits.total_bytes:
        raise DataError(f"{archive} would grow to {total} bytes, at most {limits.total_bytes} expected")
    if sum(info.compress_size for info in infos) > archive.stat().st_size:
        raise DataError(f"{archive}: entries overlap")


def _find_place(
    info: zipfile.ZipInfo, archive: Path, tables: Collection[str], store: str
) -> str | None:  # fmt: skip
    """Where an entry goes; None when it is not needed; DataError when it has no business here."""
    name = PurePosixPath(info.filename).name
    if info.is_dir() or any(word in info.filename for word in CLUTTER):
        return None
    if not DEVICE_NAME.fullmatch(name):
        if IMAGE_NAME.fullmatch(name):
            return f"{IMAGES}/{PurePosixPath(name).stem}.jpg"
        if NOTE_NAME.fullmatch(name):
            return f"{store}/{archive.stem}.{name}"  # each archive may bring its own
        if TABLE_NAME.fullmatch(name):
            return f"{store}/{name}" if name in tables else None
    raise DataError(
        f"{archive}: {info.orig_filename!r} is unexpected; images (.jpg), tables (.csv) and licence texts expected",
        hint="the archive is not what it should be: delete it",
    )


def _take(opened: zipfile.ZipFile, member: Member, target: Path, archive: Path) -> None:
    """Write one file, unless it is there already; nothing of it is left when it is damaged."""
    if _is_there(target, member.info):
        return
    temporary = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # never through a link that lies there
        with opened.open(member.info) as packed, temporary.open("xb") as file:
            start = chunk = packed.read(CHUNK)
            if member.place.startswith(IMAGES) and not start.startswith(JPEG_START):
                raise DataError(f"{archive}: {member.info.filename!r} is no JPEG")
            while chunk:  # at the end zipfile compares the CRC
                file.write(chunk)
                chunk = packed.read(CHUNK)
        if temporary.stat().st_size != member.info.file_size:
            raise DataError(f"{archive}: {member.info.filename!r} has not the size that it announces")
        rename(temporary, target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}", hint="free some space") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _is_there(target: Path, info: zipfile.ZipInfo) -> bool:
    if target.is_symlink() or not target.is_file() or target.stat().st_size != info.file_size:
        return False
    return zlib.crc32(target.read_bytes()) == info.CRC
