"""Download a public dataset into HAM10000's layout: mirrors, resume, checksums, licence."""

import logging
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from lesion.data.archive import JPEG_START, extract
from lesion.data.fetch import PART, Fetched, Patience, fetch
from lesion.data.index import IMAGES, METADATA
from lesion.data.kaggle import read_token
from lesion.data.layout import LOCK
from lesion.data.ledger import LEDGER, Ledger, now
from lesion.data.publishers import AUTO, Licence, Offer, RemoteFile, Source
from lesion.data.tables import Record, choose_subset, drop_absent, format_metadata, read_metadata
from lesion.errors import ConfigError, DataError, Interrupted, OutputError, RemoteError
from lesion.files import ensure_folder, hold_lock, open_regular, write_atomic
from lesion.progress import Progress, Silent, track
from lesion.records import DownloadedFile, DownloadReport

log = logging.getLogger(__name__)
STORE = "downloads"  # tables, and archives until they are extracted
IMAGE_BYTES = 300_000  # of one image, for planning
ROOM = 1.02  # a file system needs some space of its own
WORKERS = 4  # single images at once; polite to a public server


@dataclass(frozen=True, slots=True)
class Wish:
    """What to download and how."""

    host: str = AUTO
    """One of the source's hosts, or "auto": each in turn that needs no account."""
    subset: int | None = None
    """Only so many images, fetched one by one."""
    keep_archives: bool = False
    """Keep archives after they were extracted."""
    token: Path | None = None
    """A file with Kaggle's token; None: where Kaggle's own tool puts it."""


def plan(source: Source, root: Path, wish: Wish | None = None) -> DownloadReport:
    """What `download` would fetch first, and the space it needs; asks no server and writes nothing.

    Raises: as `download` does before it asks for anything, but space and licence are only reported.
    """
    wish = wish or Wish()
    offer = source.choose(wish.host)[0]
    _check_subset(source, offer, wish)
    return _report(source, root, wish, offer, Ledger.read(root, source, wish.subset))


def download(
    source: Source,
    root: Path,
    wish: Wish | None = None,
    accept: Callable[[Licence], bool] = lambda licence: False,
    patience: Patience | None = None,
    progress: Progress | None = None,
) -> DownloadReport:
    """Make the dataset `source` at `root`, fetching only what is not there yet; the metadata come last.

    `accept` is asked once per folder whether the user accepts the licence; the answer is kept in `downloads.json`.

    Raises:
        ConfigError: the licence is not accepted; the source has no such host, or cannot give a subset.
        NotFoundError: a host needs a token, and there is none.
        OutputError: too little space; `root` cannot be written, holds another dataset, or another process writes
            one there.
        DataError: what came is not what was published, from any host.
        RemoteError: no host answered.
        Interrupted: Ctrl-C; what has arrived is kept.
    """
    wish, started = wish or Wish(), time.monotonic()
    offers = source.choose(wish.host)
    _check_subset(source, offers[0], wish)
    ledger = Ledger.read(root, source, wish.subset)
    if ledger.is_finished(root):
        return _report(source, root, wish, _find_offer(offers, ledger.host), ledger)
    _require_space(root, offers[0], wish, ledger)
    _require_licence(source, ledger, accept)
    licence = ledger.licence
    ensure_folder(root)
    with hold_lock(root / LOCK, f"write the dataset {root}"):
        ledger = Ledger.read(root, source, wish.subset)  # again: another download may have ended since
        ledger.licence = licence
        ensure_folder(root / STORE)
        ensure_folder(root / IMAGES)
        ledger.write(root)
        job = _Job(source, root, wish, ledger, patience or Patience(), progress or Silent())
        try:
            offer = _try_offers(offers, job)
        except KeyboardInterrupt as error:
            raise Interrupted(
                "the download was interrupted; what has arrived is kept", hint="run the same command again to go on"
            ) from error
    return _report(source, root, wish, offer, ledger, job.received, time.monotonic() - started)


@dataclass(slots=True)
class _Job:
    """What the steps of one download share."""

    source: Source
    root: Path
    wish: Wish
    ledger: Ledger
    patience: Patience
    progress: Progress
    received: int = 0


def _try_offers(offers: tuple[Offer, ...], job: _Job) -> Offer:
    for offer, after in zip(offers, (*offers[1:], None), strict=True):
        try:
            _require_space(job.root, offer, job.wish, job.ledger)
            _obtain(offer, job)
            return offer
        except (RemoteError, DataError) as error:
            if after is None:
                raise
            log.warning("%s; trying %s", error.message, after.host)
    raise AssertionError("a source has at least one offer")


def _obtain(offer: Offer, job: _Job) -> None:
    """Fetch all files of one offer, then write the metadata."""
    token = read_token(job.wish.token) if offer.needs_token else None
    for file in _list_files(offer, job.wish):
        if not job.ledger.has(job.root, file.name):
            _obtain_file(file, job, token)
    tables = _find_tables(offer, job)
    rows = read_metadata(tables)
    if job.wish.subset is not None:
        rows = choose_subset(rows, job.wish.subset)
        _obtain_images(rows, job)
    present = {path.stem for path in (job.root / IMAGES).iterdir() if path.suffix == ".jpg"}
    kept = drop_absent(rows, present)
    if len(kept) < len(rows):
        log.warning("%d listed images did not come with the archives and are left out", len(rows) - len(kept))
    write_atomic(job.root / METADATA, format_metadata(kept, tables))
    _finish(offer, {f"{row['image_id']}.jpg" for row in kept}, job)


def _finish(offer: Offer, images: set[str], job: _Job) -> None:
    """Forget what a host gave that was given up on, or it would be missed as soon as another's files replace it."""
    wanted = images | {file.name for file in offer.files}
    job.ledger.files = {name: entry for name, entry in job.ledger.files.items() if name in wanted}
    for left in (job.root / STORE).glob(f"*{PART}"):
        left.unlink()
    job.ledger.host, job.ledger.finished = offer.host, now()
    job.ledger.write(job.root)


def _list_files(offer: Offer, wish: Wish) -> list[RemoteFile]:
    return [file for file in offer.files if wish.subset is None or file.place == METADATA]


def _obtain_file(file: RemoteFile, job: _Job, token: str | None) -> None:
    """Fetch one file and extract it if it is an archive; the ledger knows it afterwards."""
    target = job.root / STORE / file.name
    fetched = fetch(file, target, job.patience, job.progress, token)
    job.received += fetched.received
    members = {f"{STORE}/{file.name}": fetched.bytes}
    if file.is_archive:
        try:
            members = extract(target, job.root, file.tables, STORE, progress=job.progress)
        except DataError:
            target.unlink(missing_ok=True)  # or the next run would take it for good
            raise
        if not job.wish.keep_archives:
            target.unlink()
    _note(file.name, fetched, members, job)
    job.ledger.write(job.root)


def _note(name: str, fetched: Fetched, members: dict[str, int], job: _Job) -> None:
    known = {name: value for name, value in asdict(fetched).items() if name != "received"}
    job.ledger.files[name] = {**known, "fetched": now(), "members": members}


def _find_tables(offer: Offer, job: _Job) -> list[Path]:
    places = [place for file in offer.files for place in job.ledger.files.get(file.name, {}).get("members", ())]
    return [job.root / place for place in places if place.endswith(".csv")]


def _obtain_images(rows: list[Record], job: _Job) -> None:
    """Fetch single images that are not there yet, some at a time."""
    names = [f"{row['image_id']}.jpg" for row in rows]
    missing = [name for name in names if not job.ledger.has(job.root, name)]

    def get(name: str) -> tuple[str, Fetched]:
        target = job.root / IMAGES / name
        urls = tuple(url.format(image=target.stem) for url in job.source.image_urls)
        fetched = fetch(RemoteFile(name, urls, IMAGES), target, job.patience)
        with open_regular(target) as file:
            if not file.read(len(JPEG_START)).startswith(JPEG_START):
                target.unlink()
                raise DataError(f"{name} from {fetched.url} is no JPEG", hint="run it again later")
        return name, fetched

    pool = ThreadPoolExecutor(WORKERS)
    try:
        for name, fetched in track(job.progress, pool.map(get, missing), len(missing), "images"):
            _note(name, fetched, {f"{IMAGES}/{name}": fetched.bytes}, job)
            job.received += fetched.received
    finally:
        pool.shutdown(cancel_futures=True)
        job.ledger.write(job.root)


def _check_subset(source: Source, offer: Offer, wish: Wish) -> None:
    if wish.subset is not None and not (source.image_urls and _list_files(offer, wish)):
        raise ConfigError(f"{offer.host} gives no single images of {source.name}", hint="leave out --source")


def _require_licence(source: Source, ledger: Ledger, accept: Callable[[Licence], bool]) -> None:
    if ledger.has_accepted(source.licence):
        return
    if not accept(source.licence):
        raise ConfigError(
            f"{source.name} comes under {source.licence.name}, which was not accepted",
            hint=f"read {source.licence.url}, then add --accept-licence",
        )
    ledger.accept(source.licence)


def _require_space(root: Path, offer: Offer, wish: Wish, ledger: Ledger) -> None:
    needed, free = _count_needed(root, offer, wish, ledger), _count_free(root)
    if free < needed:
        raise OutputError(
            f"the download needs {needed / 1e9:.2f} GB in {root}, {free / 1e9:.2f} GB are free",
            hint="free some space, name a folder on another disk, or take a part with --subset",
        )


def _count_needed(root: Path, offer: Offer, wish: Wish, ledger: Ledger) -> int:
    """Bytes for what is missing: archives, as many as lie there at once, and what comes out of them."""
    missing = [file for file in _list_files(offer, wish) if not ledger.has(root, file.name)]
    packed = [file.size for file in missing if file.is_archive]
    unpacked = sum(file.size if file.unpacked is None else file.unpacked for file in missing)
    there = sum(path.stat().st_size for path in (root / STORE).glob(f"*{PART}"))
    most = sum(packed) if wish.keep_archives else max(packed, default=0)
    images = (wish.subset or 0) * IMAGE_BYTES
    return max(0, round((unpacked + most + images) * ROOM) - there)


def _count_free(root: Path) -> int:
    place = root.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _find_offer(offers: tuple[Offer, ...], host: str) -> Offer:
    return next((offer for offer in offers if offer.host == host), offers[0])


def _report(
    source: Source, root: Path, wish: Wish, offer: Offer, ledger: Ledger, received: int = 0, seconds: float = 0.0
) -> DownloadReport:
    files = [
        DownloadedFile(file.name, file.urls[0], file.bytes, file.place, ledger.has(root, file.name))
        for file in _list_files(offer, wish)
    ]
    finished = ledger.is_finished(root)
    images = [place for entry in ledger.files.values() for place in entry["members"] if place.startswith(IMAGES)]
    return DownloadReport(
        root=str(root),
        dataset=source.name,
        title=source.title,
        source=ledger.host if finished else offer.host,
        licence=f"{source.licence.name}, {source.licence.url}",
        subset=wish.subset,
        finished=finished,
        files=files,
        images=len(set(images)),
        received=received,
        needed=0 if finished else _count_needed(root, offer, wish, ledger),
        free=_count_free(root),
        seconds=round(seconds, 1),
        record=str(root / LEDGER),
    )
