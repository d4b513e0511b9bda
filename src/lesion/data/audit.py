"""Look for everything in a dataset that would mislead a model or its evaluation."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lesion.data.catalog import to_name
from lesion.data.duplicates import Pair, find_exact, find_pairs
from lesion.data.examine import Look, look_at_files
from lesion.data.index import Row, name_dataset, scan
from lesion.data.quarantine import read_quarantine
from lesion.data.split import read_parts
from lesion.errors import CheckFailed
from lesion.progress import Progress
from lesion.records import AuditReport, Finding
from lesion.taxonomy import DIAGNOSES

ERROR, WARNING, NOTE = "error", "warning", "note"
OLDEST = 120  # years
# What HAM10000 knows; the empty word is an unknown value there, too.
WORDS = {
    "dx_type": {"", "histo", "follow_up", "consensus", "confocal"},
    "sex": {"", "male", "female", "unknown"},
    "localization": {
        "", "abdomen", "acral", "back", "chest", "ear", "face", "foot", "genital", "hand", "lower extremity", "neck",
        "scalp", "trunk", "unknown", "upper extremity",
    },
}  # fmt: skip
# Each kind of finding in the order of the report: severity, title.
KINDS = {
    "empty": (ERROR, "empty file"),
    "not-an-image": (ERROR, "no image inside"),
    "damaged": (ERROR, "damaged, truncated or unreadable"),
    "unusable-size": (ERROR, "too large or too small to be used"),
    "absent": (ERROR, "listed but absent"),
    "several-files": (ERROR, "several files of one id"),
    "bad-id": (ERROR, "an id is missing or not allowed"),
    "repeated-id": (ERROR, "listed twice"),
    "unknown-diagnosis": (ERROR, "unknown diagnosis"),
    "two-diagnoses": (ERROR, "one lesion, two diagnoses"),
    "same-pixels-other-diagnosis": (ERROR, "same pixels, other diagnosis"),
    "near-duplicate-other-diagnosis": (ERROR, "near-duplicate with another diagnosis"),
    "lesion-in-two-splits": (ERROR, "one lesion in two splits"),
    "duplicate-in-two-splits": (ERROR, "duplicates in two splits"),
    "same-pixels-other-lesion": (WARNING, "same pixels, other lesion"),
    "near-duplicate": (WARNING, "near-duplicate of another lesion"),
    "mostly-black": (WARNING, "mostly black"),
    "dark": (WARNING, "underexposed"),
    "bright": (WARNING, "overexposed"),
    "blurred": (WARNING, "blurred"),
    "bad-age": (WARNING, "age is no number of years"),
    "bad-sex": (WARNING, "sex out of vocabulary"),
    "bad-localization": (WARNING, "body site out of vocabulary"),
    "bad-dx_type": (WARNING, "kind of proof out of vocabulary"),
    "disguised": (WARNING, "extension and content differ"),
    "same-pixels": (NOTE, "same pixels, same lesion"),
    "odd-size": (NOTE, "other size than most"),
    "unlisted": (NOTE, "image without a row"),
}
UNFIXABLE = {"lesion-in-two-splits", "duplicate-in-two-splits"}


@dataclass(frozen=True, slots=True)
class Examination:
    """A dataset as an audit sees it, before it is judged."""

    root: Path
    processed: Path
    rows: list[Row]
    looks: list[Look]
    """One per row."""
    pairs: list[Pair]
    """Near-duplicates of different lesions, indices of rows."""
    unlisted: list[Path]
    parts: dict[str, str]
    """Image id → part of the split; empty when none was drawn."""

    @property
    def paths(self) -> dict[str, Path]:
        """Image id or file name → file."""
        return {row.image_id: row.path for row in self.rows} | {to_name(path.name): path for path in self.unlisted}


def examine(root: Path, processed: Path, workers: int = 2, progress: Progress | None = None) -> Examination:
    """Look at everything in the dataset at `root` whose split and quarantine lie in `processed`.

    Raises NotFoundError and DataError as `index.scan` does, and DataError when the split or the quarantine is damaged.
    """
    rows, unlisted = scan(root)
    quarantined = read_quarantine(processed)
    parts = read_parts(processed) if (processed / "splits.csv").is_file() else {}
    rows = [row for row in rows if row.image_id not in quarantined]
    looks = look_at_files([row.path for row in rows], workers, progress)
    seen = [i for i, look in enumerate(looks) if look.thumb is not None]
    thumbs = np.array([look.thumb for look in looks if look.thumb is not None], np.uint8)
    pairs = find_pairs(thumbs, groups=[rows[i].lesion_id for i in seen])
    across = [Pair(seen[pair.first], seen[pair.second], pair.similarity) for pair in pairs]
    return Examination(root, processed, rows, looks, across, unlisted, parts)


def judge(seen: Examination) -> AuditReport:
    """The findings of an examination; images that came into quarantine since are left out."""
    quarantined = read_quarantine(seen.processed)
    kept = [i for i, row in enumerate(seen.rows) if row.image_id not in quarantined]
    place = {i: k for k, i in enumerate(kept)}
    rows, looks = [seen.rows[i] for i in kept], [seen.looks[i] for i in kept]
    pairs = [(place[p.first], place[p.second], p.similarity) for p in seen.pairs if {p.first, p.second} <= place.keys()]
    findings = [
        *_judge_files(rows, looks, seen.unlisted),
        *_judge_rows(rows),
        *_judge_duplicates(rows, looks, pairs, seen.parts),
    ]
    order = list(KINDS)
    findings.sort(key=lambda finding: (order.index(finding.kind), -(finding.similarity or 0)))
    counts = Counter(finding.kind for finding in findings)
    return AuditReport(
        root=str(seen.root),
        processed=str(seen.processed),
        images=len(rows),
        lesions=len({row.lesion_id for row in rows}),
        quarantined=len(quarantined),
        counts=dict(counts),
        findings=findings,
    )


def audit(root: Path, processed: Path, workers: int = 2, progress: Progress | None = None) -> AuditReport:
    """Examine and judge; errors as in `examine`."""
    return judge(examine(root, processed, workers, progress))


def choose_for_quarantine(report: AuditReport) -> dict[str, str]:
    """Image id → reason, for every error that leaving its images out mends."""
    reasons: dict[str, str] = {}
    for finding in report.errors:
        if finding.kind not in UNFIXABLE and all(finding.images):
            for image in finding.images:
                reasons.setdefault(image, f"{finding.title}: {finding.message}")
    return reasons


def require_clean(report: AuditReport) -> None:
    """CheckFailed when the report has an error."""
    if not report.errors:
        return
    count, fixable = len(report.errors), bool(choose_for_quarantine(report))
    words = name_dataset(Path(report.root), report.processed)
    hint = f"`lesion data audit {words} --fix` puts the images in quarantine; nothing is moved, and --restore undoes it"
    if not fixable:
        hint = f"delete {Path(report.processed) / 'splits.json'} and draw the split anew: lesion data prepare {words}"
        if any(finding.kind == "bad-id" for finding in report.errors):
            hint = "give each row of the metadata an image_id and a lesion_id"
    raise CheckFailed(f"{report.root}: {count} finding{'s' * (count > 1)} must not be trained on", hint=hint)


def _find(kind: str, images: Sequence[str], message: str, similarity: float | None = None) -> Finding:
    severity, title = KINDS[kind]
    return Finding(kind, severity, title, tuple(images), message, similarity)


def _judge_files(rows: Sequence[Row], looks: Sequence[Look], unlisted: Sequence[Path]) -> Iterator[Finding]:
    sizes = Counter(look.size for look in looks if not look.flaw)
    usual = sizes.most_common(1)[0][0] if sizes else (0, 0)
    for row, look in zip(rows, looks, strict=True):
        if row.rivals:
            names = [to_name(path.name) for path in (row.path, *row.rivals)]
            yield _find("several-files", [row.image_id], ", ".join(names))
        if look.flaw:
            yield _find(look.flaw, [row.image_id], look.message)
            continue
        if look.disguise:
            yield _find("disguised", [row.image_id], f"{look.path.name} is a {look.disguise} file")
        if look.size != usual:
            message = "{}×{}, most are {}×{}".format(*look.size, *usual)
            yield _find("odd-size", [row.image_id], message)
        if look.quality is not None:
            q = look.quality
            said = f"sharpness {q.sharpness:.1f}, mean {q.mean:.0f}, black {q.black:.1%}, white {q.white:.1%}"
            for flaw in q.flaws:
                yield _find(flaw, [row.image_id], said)
    for path in unlisted:
        name = to_name(path.name)
        yield _find("unlisted", [name], f"no row names {name}")


def _judge_rows(rows: Sequence[Row]) -> Iterator[Finding]:
    counts = Counter(row.image_id for row in rows)
    by_lesion: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_lesion[row.lesion_id].append(row)
        shown = [row.image_id]
        if not row.lesion_id or not _is_id(row.image_id):
            yield _find("bad-id", shown, f"image_id {row.image_id!r}, lesion_id {row.lesion_id!r}")
        if row.dx not in DIAGNOSES:
            yield _find("unknown-diagnosis", shown, f"{row.dx!r} is none of {', '.join(DIAGNOSES)}")
        if row.age and not _is_age(row.age):
            yield _find("bad-age", shown, f"{row.age!r} is no age between 0 and {OLDEST}")
        for column, words in WORDS.items():
            if getattr(row, column) not in words:
                yield _find(f"bad-{column}", shown, f"{getattr(row, column)!r} is unknown")
    for image, count in counts.items():
        if count > 1:
            yield _find("repeated-id", [image], f"{count} rows name it")
    for lesion, members in by_lesion.items():
        names = sorted({row.dx for row in members})
        if len(names) > 1 and lesion:
            yield _find("two-diagnoses", _ids(members), f"{lesion}: {' and '.join(names)}")


def _judge_duplicates(
    rows: Sequence[Row], looks: Sequence[Look], pairs: Sequence[tuple[int, int, float]], parts: Mapping[str, str]
) -> Iterator[Finding]:
    seen = [i for i, look in enumerate(looks) if look.digest]
    exact = {(seen[i], seen[j]) for i, j in find_exact([looks[i].digest for i in seen])}
    for i, j in sorted(exact):
        one, other = rows[i], rows[j]
        if one.image_id == other.image_id:  # listed twice: said elsewhere
            continue
        suffix = "-other-diagnosis" if one.dx != other.dx else "-other-lesion" if _differ(one, other) else ""
        yield _find(f"same-pixels{suffix}", [one.image_id, other.image_id], _tell(one, other))
    pairs = [(i, j, similarity) for i, j, similarity in pairs if rows[i].image_id != rows[j].image_id]
    for i, j, similarity in pairs:
        if (i, j) not in exact:
            kind = "near-duplicate" + ("-other-diagnosis" if rows[i].dx != rows[j].dx else "")
            yield _find(kind, [rows[i].image_id, rows[j].image_id], _tell(rows[i], rows[j]), similarity)
    by_lesion: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.image_id in parts:
            by_lesion[row.lesion_id].append(row)
    for lesion, members in by_lesion.items():
        if len(found := {parts[row.image_id] for row in members}) > 1:
            yield _find("lesion-in-two-splits", _ids(members), f"{lesion}: {' and '.join(sorted(found))}")
    across = {(i, j): 1.0 for i, j in exact if _differ(rows[i], rows[j])} | {(i, j): s for i, j, s in pairs}
    for (i, j), similarity in across.items():
        splits = [parts.get(rows[k].image_id) for k in (i, j)]
        if None not in splits and splits[0] != splits[1]:
            message = f"{splits[0]} and {splits[1]}, {_tell(rows[i], rows[j])}"
            yield _find("duplicate-in-two-splits", [rows[i].image_id, rows[j].image_id], message, similarity)


def _ids(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.image_id for row in rows))


def _differ(one: Row, other: Row) -> bool:
    return one.lesion_id != other.lesion_id


def _tell(one: Row, other: Row) -> str:
    return f"{one.lesion_id} {one.dx}, {other.lesion_id} {other.dx}"


def _is_id(image: str) -> bool:
    parts = [part for part in image.replace("-", "_").split("_") if part]
    return bool(parts) and all(part.isalnum() for part in parts)


def _is_age(text: str) -> bool:
    try:
        return 0 <= float(text) <= OLDEST
    except ValueError:
        return False
