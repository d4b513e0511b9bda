"""Makes a small, plausible, licence-free dataset in HAM10000's exact layout."""

import csv
import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from lesion.data.drawing import KINDS, draw_photo
from lesion.data.index import IMAGES, METADATA
from lesion.data.layout import LOCK
from lesion.errors import OutputError
from lesion.files import hold_lock, write_atomic

Track = Callable[[Iterable[None], int, str], Iterable[None]]

COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization", "dataset")

_MIN_PER_DX = 3  # one lesion each for train, validation and test
_MIN_SIDE = 32  # pixels; below this neither hairs nor borders can be drawn
_WORKERS = 2  # Pillow and numpy hold the interpreter's lock for part of the work: more threads gain little
_RECORD, _LOOK, _SHOT = 0, 1, 2  # third number of a random stream; photograph k has _SHOT + k
_SITES = (
    "abdomen", "acral", "back", "chest", "ear", "face", "foot", "genital", "hand",
    "lower extremity", "neck", "scalp", "trunk", "unknown", "upper extremity",
)  # fmt: skip
_SITE_ODDS = np.array([10, 1, 22, 4, 1, 8, 3, 1, 1, 21, 2, 1, 14, 2, 11]) / 102


@dataclass(frozen=True, slots=True)
class SynthSpec:
    """How much to draw.

    Attributes:
        lesions: Number of lesions, at least 21 (three of each diagnosis); about 1.5 times as many images.
        width: Image width in pixels, at least 32.
        height: Image height in pixels, at least 32.
        seed: Not negative; the same seed gives the same bytes, given the same versions and processor type.

    Raises:
        ValueError: A number is too small.
    """

    lesions: int = 120
    width: int = 600
    height: int = 450
    seed: int = 0

    def __post_init__(self) -> None:
        if self.lesions < (least := _MIN_PER_DX * len(KINDS)):
            what = f"{_MIN_PER_DX} for each of the {len(KINDS)} diagnoses, so that each split gets one"
            raise ValueError(f"lesions is {self.lesions}, but at least {least} are needed: {what}")
        if min(self.width, self.height) < _MIN_SIDE:
            raise ValueError(f"{self.width}x{self.height} is too small: both sides need {_MIN_SIDE} pixels")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, but must not be negative")


class _Shot(NamedTuple):
    """One photograph to draw: the lesion's number from 1, the photograph's from 0, and its metadata row."""

    lesion: int
    number: int
    row: dict[str, str]


def synthesize(root: Path, spec: SynthSpec | None = None, track: Track | None = None) -> list[dict[str, str]]:
    """Draw a dataset into `root` in HAM10000's layout, the metadata last.

    Writes `root/HAM10000_images/SYN_*.jpg` (RGB, quality 90) and then, in one step,
    `root/HAM10000_metadata.csv`, so that an interrupted call leaves no dataset that looks whole. The next
    call replaces what it left.

    Args:
        root: Folder to write to; made if missing.
        spec: How much to draw; the defaults of `SynthSpec` if None.
        track: Called as `track(iterable, total, label)` and iterated instead of `iterable`, to show progress.

    Returns:
        The metadata rows in file order; each maps the eight columns to text, with an unknown age as "".

    Raises:
        OutputError: `root` already holds metadata or images that are not synthetic, or cannot be written, or another
            process writes a dataset there.
    """
    spec = spec or SynthSpec()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with hold_lock(root / LOCK, f"write the dataset {root}"):
            return _draw(root, spec, track)
    except OSError as error:
        raise OutputError(
            f"cannot write into {root}: {error.strerror or error}", hint="check its permissions and free space"
        ) from error


def _draw(root: Path, spec: SynthSpec, track: Track | None) -> list[dict[str, str]]:
    images = _prepare_folder(root)
    shots = _plan_shots(spec)

    def save(shot: _Shot) -> None:
        look, rng = _stream(spec, shot.lesion, _LOOK), _stream(spec, shot.lesion, _SHOT + shot.number)
        photo = draw_photo(shot.row["dx"], look, rng, spec.width, spec.height)
        photo.save(images / f"{shot.row['image_id']}.jpg", quality=90)

    with ThreadPoolExecutor(_WORKERS) as pool:
        done: Iterable[None] = pool.map(save, shots)
        try:
            for _ in track(done, len(shots), "drawing lesions") if track else done:
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)  # or leaving the block would first draw all the rest
            raise
    rows = [shot.row for shot in shots]
    write_atomic(root / METADATA, _format_metadata(rows))
    return rows


def _prepare_folder(root: Path) -> Path:
    """Make the folder for images and clear what an interrupted call left in it."""
    if (root / METADATA).exists():
        raise OutputError(
            f"{root / METADATA} exists: {root} holds a whole dataset",
            hint="use that one, choose another folder, or remove that dataset",
        )
    images = root / IMAGES
    images.mkdir(exist_ok=True)
    left = list(images.glob("*.jpg"))
    if foreign := [path.name for path in left if not path.name.startswith("SYN_")]:
        raise OutputError(f"{images} holds {foreign[0]}, not a synthetic image", hint="choose another folder")
    for path in left:
        path.unlink()
    return images


def _format_metadata(rows: list[dict[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _stream(spec: SynthSpec, lesion: int, part: int) -> Generator:
    return np.random.default_rng((spec.seed, lesion, part))


def _plan_shots(spec: SynthSpec) -> list[_Shot]:
    """Decide each lesion's diagnosis, metadata and number of photographs."""
    counts = dict.fromkeys(KINDS, _MIN_PER_DX)
    for _ in range(spec.lesions - sum(counts.values())):
        counts[max(KINDS, key=lambda dx: KINDS[dx].share * spec.lesions - counts[dx])] += 1
    deck = [dx for dx, count in counts.items() for _ in range(count)]
    shots: list[_Shot] = []
    for lesion, card in enumerate(_stream(spec, 0, _RECORD).permutation(len(deck)), start=1):
        rng = _stream(spec, lesion, _RECORD)
        record = _draw_record(rng, lesion, deck[card])
        for number in range(int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))):
            shots.append(_Shot(lesion, number, record | {"image_id": f"SYN_{len(shots) + 1:07d}"}))
    return shots


def _draw_record(rng: Generator, lesion: int, dx: str) -> dict[str, str]:
    kind = KINDS[dx]
    age = 5.0 * round(float(np.clip(rng.normal(kind.age, 14), 5, 85)) / 5)  # HAM10000 writes "45.0"
    return {
        "lesion_id": f"SYNL_{lesion:06d}",
        "image_id": "",
        "dx": dx,
        "dx_type": str(rng.choice(kind.confirmed.split())),
        "age": "" if rng.random() < 0.03 else str(age),
        "sex": str(rng.choice(["male", "female", "unknown"], p=[0.53, 0.45, 0.02])),
        "localization": str(rng.choice(_SITES, p=_SITE_ODDS)),
        "dataset": "synthetic",
    }
