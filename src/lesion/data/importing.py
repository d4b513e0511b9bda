"""Turn a dataset of another shape into HAM10000's layout, or refuse it, and account for everything left out."""

import logging
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path

from lesion.data.catalog import LeftOut, sniff, to_stem
from lesion.data.cleaning import EMPTY, Blanked, to_age, to_confirmation, to_id, to_sex, to_words
from lesion.data.index import Row, check_rows
from lesion.data.labels import SKIP, find_diagnosis, map_labels, read_map, to_key
from lesion.data.layout import check_places, write_dataset
from lesion.data.sources import Found, find_lesions, read_csv, read_folders, read_isic
from lesion.errors import ConfigError, DataError
from lesion.progress import Progress, Silent, track
from lesion.records import ImportReport, to_json

log = logging.getLogger(__name__)

ALONE = (
    "%d of %d images have no lesion id and count as a lesion of their own: leakage between the splits cannot be "
    "excluded. Near-duplicates are kept in one split, but that is no substitute: of the pairs of photographs of one "
    "lesion in HAM10000 they are 37 %% (docs/audit.md)"
)
MASKS = (
    "%d images look like masks of others, for example %s, and were imported as images: if they are masks, move them "
    "out of the source and import it again into another folder"
)
MASK = re.compile(r"(.+?)[ _.-]*(?:masks?|segmentation|seg|superpixels|ground ?truth|gt)(?:[ _-]?\d+)?", re.IGNORECASE)
SHOWN = 20  # values of a column that were not understood


@dataclass(frozen=True, slots=True)
class ImportSpec:
    """What to import and how; without `csv` and `isic`, the folders of the source are the classes."""

    csv: Path | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)
    """image, label, lesion, age, sex, site → the column of `csv`."""
    isic: Path | None = None
    """One-hot ground truth of ISIC 2018 or 2019."""
    metadata: Path | None = None
    """With `isic`: its lesion groupings or metadata."""
    encoding: str = "utf-8"
    lesion_pattern: str | None = None
    """Regular expression with one group: the lesion, searched in the file's stem."""
    prefix: bool = False
    """Make ids from the whole relative path instead of the stem."""
    map: Sequence[str] = ()
    """Pairs theirs=ours; see `labels.read_map`."""
    link: bool = False
    """Link to the images instead of copying them."""
    skip_unusable: bool = False
    """Leave out, and list, instead of refusing: images that are absent or no JPEG or PNG, or of a lesion with two
    diagnoses."""


def import_dataset(source: Path, root: Path, spec: ImportSpec, progress: Progress | None = None) -> ImportReport:
    """Write the images of `source` to `root` in HAM10000's layout, the metadata last and in one step.

    Raises:
        ConfigError: options that contradict each other or do not fit the source.
        NotFoundError: the source or a table does not exist.
        DataError: unknown labels, ids that are not unique, a lesion with two diagnoses, unusable images.
        OutputError: `root` holds a dataset, overlaps the source, or cannot be written; nothing of it is then left.
    """
    check_places(source, root)
    progress = progress or Silent()
    left_out: LeftOut = defaultdict(list)
    found = _read(source, spec, left_out)
    mapping = read_map(spec.map)
    if not spec.csv and not spec.isic:
        _require_classes(source, root, found, mapping)
    labels = map_labels([image.label for image in found], mapping)
    found = _drop_skipped(found, labels, left_out)
    suffixes = _judge(source, found, spec, left_out, progress)
    found = [image for image in found if suffixes[image.name]]
    if not found:
        raise DataError(f"{source}: no images to import", hint=_say_left_out(left_out))
    blanked: Blanked = defaultdict(Counter)
    rows, renamed, alone = _to_rows(found, labels, spec, blanked)
    rows, found = _judge_lesions(source, rows, found, spec, left_out)
    check_rows(rows, source)
    kept = {row.image_id for row in rows}
    report = ImportReport(
        source=str(source),
        root=str(root),
        linked=spec.link,
        images=len(rows),
        lesions=len({row.lesion_id for row in rows}),
        own_lesions=alone,
        diagnoses=dict(Counter(row.dx for row in rows).most_common()),
        labels=labels,
        left_out=dict(sorted(left_out.items())),
        renamed={image: name for image, name in renamed.items() if image in kept},
        blanked={column: values.total() for column, values in blanked.items()},
        not_understood={
            column: [value for value, _ in values.most_common(SHOWN)] for column, values in blanked.items()
        },
    )
    files = {f"{row.image_id}{suffixes[image.name]}": row.path for row, image in zip(rows, found, strict=True)}
    write_dataset(root, files, rows, to_json(report), spec.link, progress)
    if alone:
        log.warning(ALONE, alone, len(rows))
    if masks := _find_masks(found):
        log.warning(MASKS, len(masks), masks[0])
    return report


def _require_classes(source: Path, root: Path, found: Sequence[Found], mapping: Mapping[str, str]) -> None:
    """DataError when the only folder in `source` is no class but holds the folders of the classes."""
    labels = {image.label for image in found}
    label = next(iter(labels))
    if len(labels) > 1 or find_diagnosis(label) or to_key(label) in mapping:
        return
    tops = {image.path.relative_to(source).parts[0] for image in found}
    inner = tops.pop()
    below = {image.label for image in read_folders(source / inner, defaultdict(list))} if not tops else set()
    if len(below) > 1:
        raise DataError(
            f"{source}: all {len(found)} images are in one folder, {label!r}, which is no diagnosis",
            hint="name the folder that holds the class folders: "
            + shlex.join(["lesion", "data", "import", str(source / inner), str(root)]),
        )


def _find_masks(found: Sequence[Found]) -> list[str]:
    """The names of images whose stem is that of another one with "_mask" or the like behind it."""
    stems = {to_stem(image.name) for image in found}
    matches = [(image.name, MASK.fullmatch(to_stem(image.name))) for image in found]
    return [name for name, match in matches if match and match[1] in stems]


def _judge_lesions(
    source: Path, rows: list[Row], found: list[Found], spec: ImportSpec, left_out: LeftOut
) -> tuple[list[Row], list[Found]]:
    """Refuse lesions with two diagnoses, or leave them out with `skip_unusable`."""
    diagnoses: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        diagnoses[row.lesion_id].add(row.dx)
    if not (torn := {lesion: sorted(found) for lesion, found in diagnoses.items() if len(found) > 1}):
        return rows, found
    if not spec.skip_unusable:
        told = [f"{lesion} ({' and '.join(names)})" for lesion, names in torn.items()]
        raise DataError(
            f"{source}: {len(torn)} lesion{'s' * (len(torn) > 1)} with two diagnoses: {_some(told)}",
            hint="correct the lesion or the label; or leave all their images out with --skip-unusable. A column or "
            "pattern of patients does not name lesions: leave it out",
        )
    kept = [row.lesion_id not in torn for row in rows]
    left_out["of a lesion with two diagnoses"].extend(
        image.name for image, keep in zip(found, kept, strict=True) if not keep
    )
    rows, found = list(compress(rows, kept)), list(compress(found, kept))
    if not rows:
        raise DataError(f"{source}: no images to import", hint=_say_left_out(left_out))
    return rows, found


def _drop_skipped(found: Sequence[Found], labels: Mapping[str, str], left_out: LeftOut) -> list[Found]:
    for image in found:
        if labels[image.label] == SKIP:
            left_out[f"labelled {image.label!r}, which --map skips"].append(image.name)
    return [image for image in found if labels[image.label] != SKIP]


def _read(source: Path, spec: ImportSpec, left_out: LeftOut) -> list[Found]:
    if spec.csv and spec.isic:
        raise ConfigError("--csv and --isic contradict each other", hint="choose one")
    if spec.metadata and not spec.isic:
        raise ConfigError("--metadata belongs to --isic", hint="with --csv, name the columns")
    if not spec.csv and (named := [name for name, column in spec.columns.items() if column]):
        raise ConfigError(f"--{named[0]}-column needs --csv")
    if spec.csv:
        return read_csv(source, spec.csv, spec.columns, spec.encoding, left_out)
    if spec.isic:
        return read_isic(source, spec.isic, spec.metadata, spec.encoding, left_out)
    found = read_folders(source, left_out)
    if not found:
        raise DataError(
            f"{source}: no images in class folders",
            hint="SOURCE/melanoma/a.jpg, SOURCE/nevus/b.jpg … are expected; for a table of labels, name it with --csv",
        )
    return found


def _judge(
    source: Path, found: Sequence[Found], spec: ImportSpec, left_out: LeftOut, progress: Progress
) -> dict[str, str]:
    """Name → the suffix that fits its bytes, "" for an image that cannot be used."""
    suffixes, bad = {}, []
    for image in track(progress, found, len(found), "look at images"):
        suffixes[image.name], reason = sniff(image.path), ""
        if not suffixes[image.name]:
            reason = "absent" if image.path == Path() else "no readable JPEG or PNG"
        elif not any(letter.isalnum() for letter in _name(image, spec)):
            suffixes[image.name], reason = "", "no letter or digit in its name"
        if reason:
            bad.append(f"{image.name} ({reason})")
            left_out[reason].append(image.name)
    if bad and not spec.skip_unusable:
        raise DataError(
            f"{source}: {len(bad)} image{'s' * (len(bad) > 1)} cannot be used: {_some(bad)}",
            hint="complete, convert or rename them, or leave them out with --skip-unusable",
        )
    return suffixes


def _name(image: Found, spec: ImportSpec) -> str:
    """What the image's id is made from."""
    return image.name.rpartition(".")[0] if spec.prefix else to_stem(image.name)


def _to_rows(
    found: Sequence[Found], labels: Mapping[str, str], spec: ImportSpec, blanked: Blanked
) -> tuple[list[Row], dict[str, str], int]:
    """The rows, the ids that differ from their name, and how many images have no lesion id."""
    names = [_name(image, spec) for image in found]
    ids = [to_id(name) for name in names]
    files = [image.name for image in found]
    paths = {to_id(name.rpartition(".")[0]) for name in files}
    hint = "rename them, or add --prefix to make ids from paths"
    if len(set(files)) < len(files):
        hint = "name each image in one row of the table"
    elif len(paths) < len(files) or spec.prefix:
        hint = "rename one of each; or move it out of the source, if it is a mask or a copy"
    _refuse_shared(ids, files, "image id", hint)
    lesions = find_lesions(found, spec.lesion_pattern) if spec.lesion_pattern else [image.lesion for image in found]
    given = [to_id(lesion) if lesion.lower() not in EMPTY else "" for lesion in lesions]
    pairs = sorted({(new, old) for new, old in zip(given, lesions, strict=True) if new})
    _refuse_shared([new for new, _ in pairs], [old for _, old in pairs], "lesion id", "rename them in the source")
    spanish = {"h", "m"} <= {image.sex.lower() for image in found}
    taken = set(given)
    own = [f"{name}_own" if name in taken else name for name in ids]
    rows = [
        Row(
            image_id=ids[i],
            lesion_id=given[i] or own[i],
            dx=labels[image.label],
            path=image.path,
            dx_type=to_confirmation(image.confirmed),
            age=to_age(image.age, blanked),
            sex=to_sex(image.sex, blanked, is_m_clear=not spanish),
            localization=to_words(image.site) or "unknown",
            dataset="imported",
        )
        for i, image in enumerate(found)
    ]
    renamed = {ids[i]: image.name for i, image in enumerate(found) if ids[i] != names[i]}
    return rows, renamed, given.count("")


def _refuse_shared(ids: Sequence[str], names: Sequence[str], noun: str, hint: str) -> None:
    holders = defaultdict(list)
    for new, name in zip(ids, names, strict=True):
        holders[new].append(name)
    shared = [f"{new} ({', '.join(old[:3])})" for new, old in holders.items() if len(old) > 1]
    if shared:
        raise DataError(f"{len(shared)} {noun}{'s' * (len(shared) > 1)} more than once: {_some(shared)}", hint=hint)


def _some(words: Sequence[str], most: int = 3) -> str:
    return "; ".join(words[:most]) + ("; …" if len(words) > most else "")


def _say_left_out(left_out: LeftOut) -> str:
    return "left out: " + _some([f"{len(names)} {why}" for why, names in left_out.items()], 9) if left_out else ""
