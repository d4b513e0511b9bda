"""Datasets of other shapes, read in their own words: class folders, a table, the ground truth of ISIC 2018 and 2019."""

import filecmp
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lesion.data.catalog import Catalog, LeftOut, list_files, to_name, to_stem
from lesion.data.csvfile import Table, read_csv_file
from lesion.errors import ConfigError, DataError
from lesion.suggest import lookup

NO_LABEL = "unlabelled"  # what an empty label is called, so that --map can name it
SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "test", "testing")
# ISIC's columns → ours; those that a file lacks stay empty.
ISIC_COLUMNS = {
    "lesion": "lesion_id",
    "age": "age_approx",
    "sex": "sex",
    "site": "anatom_site_general",
    "confirmed": "diagnosis_confirm_type",
}
ISIC_CLASSES = ("MEL", "NV", "BCC", "AKIEC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")


@dataclass(frozen=True, slots=True)
class Found:
    """One image of a source, in the source's own words."""

    name: str
    """The file relative to the source or, when it is absent, what the table calls it."""
    path: Path
    """The file; `Path()` when it is absent."""
    label: str
    lesion: str = ""
    age: str = ""
    sex: str = ""
    site: str = ""
    confirmed: str = ""


def read_folders(source: Path, left_out: LeftOut) -> list[Found]:
    """Images in class folders: the first folder below `source` that is not called like a split is the label.

    Images that lie in no such folder are noted in `left_out`.
    """
    found = []
    for name in list_files(source, left_out):
        label = next((part for part in name.parts[:-1] if part.lower() not in SPLIT_FOLDERS), "")
        if label:
            found.append(Found(to_name(name.as_posix()), source / name, to_name(label)))
        else:
            left_out["in no class folder"].append(to_name(name.as_posix()))
    return found


def read_csv(
    source: Path, table: Path, columns: Mapping[str, str | None], encoding: str, left_out: LeftOut
) -> list[Found]:
    """Images of a table, each with its file in `source` by relative path or stem.

    Args:
        source: Folder with the images, at any depth.
        table: CSV with a header, separated by commas, semicolons or tabs.
        columns: Field of `Found` → the table's column, or None; "image" and "label" are needed.
        encoding: Of the table.
        left_out: Gets the files that no row names.

    Raises:
        ConfigError: a column is not named, or not there.
        DataError: the table is damaged, or a name fits several files or leaves the source.
    """
    found = read_table(table, encoding)
    files = list_files(source, left_out)
    catalog = Catalog(files)
    if first := next((name for name in found.names if name and catalog.find(name)), None):
        raise DataError(
            f"{table} has no header: its first line names the image {first}",
            hint=f"put a line with the names of the columns before it, for example: {_make_header(found, first)}",
        )
    for field in ("image", "label"):
        if not columns.get(field):
            raise ConfigError(
                f"--{field}-column is missing: which column of {table} has the {field}?",
                hint=f"add --{field}-column with one of its columns: {', '.join(name for name in found.names if name)}",
            )
    names = {name: name for name in found.names}
    chosen = {field: lookup(names, name, f"column of {table}") for field, name in columns.items() if name}
    rows = [{field: record[name] for field, name in chosen.items()} for record in found.rows]
    for row in rows:
        row["label"] = row["label"] or NO_LABEL
    return _match(source, files, rows, found.lines, table, left_out)


def _make_header(table: Table, image: str) -> str:
    """A header for a table without one, with as many columns."""
    others = iter(("label", *(f"column{number}" for number in range(3, len(table.names) + 2))))
    return ",".join("image" if name == image else next(others) for name in table.names)


def read_table(path: Path, encoding: str) -> Table:
    """The table at `path`, with at least one row; errors as in `read_csv_file`."""
    table = read_csv_file(path, encoding)
    if not table.rows:
        raise DataError(f"{path} has no rows", hint="a header and one row per image are expected")
    return table


def read_isic(source: Path, truth: Path, more: Path | None, encoding: str, left_out: LeftOut) -> list[Found]:
    """Images of ISIC's one-hot ground truth, with lesions and metadata from its second file, if given.

    Raises:
        DataError: a file is damaged or no ground truth, or a row has not exactly one class.
    """
    found = read_table(truth, encoding)
    classes = [name for name in found.names if name.upper() in ISIC_CLASSES]
    if "image" not in found.names or len(classes) < 2:
        raise DataError(
            f"{truth} is not ISIC's ground truth: a column image and one per class expected, found "
            f"{', '.join(found.names)}",
            hint=f"classes: {', '.join(ISIC_CLASSES)}; for another table use --csv {shlex.quote(str(truth))}",
        )
    facts = _read_facts(more, encoding) if more else {}
    rows = []
    for record in found.rows:
        marks = [name for name in classes if _is_marked(record[name], truth)]
        if len(marks) != 1:
            raise DataError(f"{truth}: {record['image']} has {len(marks)} classes, exactly one expected")
        fact = facts.get(record["image"], {})
        extra = {field: fact.get(column, "") for field, column in ISIC_COLUMNS.items()}
        rows.append({"image": record["image"], "label": marks[0], **extra})
    return _match(source, list_files(source, left_out), rows, found.lines, truth, left_out)


def _read_facts(path: Path, encoding: str) -> dict[str, dict[str, str]]:
    records = read_table(path, encoding).rows
    facts = {record.get("image", ""): record for record in records}
    if "" in facts or len(facts) < len(records):
        raise DataError(f"{path}: a column image, with another value in each row, expected")
    return facts


def _is_marked(value: str, truth: Path) -> bool:
    if value not in ("0", "0.0", "1", "1.0"):
        raise DataError(f"{truth}: 0 or 1 expected in the columns of the classes, got {value!r}")
    return value.startswith("1")


def _match(
    source: Path,
    files: list[Path],
    rows: Sequence[Mapping[str, str]],
    lines: Sequence[int],
    table: Path,
    left_out: LeftOut,
) -> list[Found]:
    """The file of each row, by the row's "image"; `lines` are the rows' lines in `table`, for messages."""
    catalog = Catalog(files)
    found: list[Found] = []
    unclear: list[str] = []
    used: set[Path] = set()
    for row, line in zip(rows, lines, strict=True):
        name = row["image"]
        if not name:
            raise DataError(f"{table}, line {line}: no image is named", hint="name the image, or delete the line")
        if re.match(r"[/\\]|[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
            raise DataError(
                f"{table}, line {line}: the image {name!r} is not inside {source}",
                hint="name images by their path relative to SOURCE, or by their stem",
            )
        path, *others = catalog.find(name) or [Path()]
        if any(not _are_same(source / path, source / other) for other in others):
            unclear.append(f"{name} ({', '.join(map(str, (path, *others[:2])))})")
        elif new := [other for other in others if other not in used]:
            left_out["a copy of another file"].extend(to_name(other.as_posix()) for other in new)
        used.update((path, *others))
        facts = {field: value for field, value in row.items() if field != "image"}
        place = source / path if path != Path() else path
        found.append(Found(to_name(path.as_posix()) if path != Path() else name, place, **facts))
    if unclear:
        raise DataError(
            f"{table}: {len(unclear)} image{'s' * (len(unclear) > 1)} with several files: {'; '.join(unclear[:3])}",
            hint="write their paths relative to SOURCE into the table, or move the other files out of SOURCE",
        )
    if rest := [to_name(path.as_posix()) for path in files if path not in used]:
        left_out["in no row of the table"].extend(rest)
    return found


def _are_same(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def find_lesions(found: Sequence[Found], pattern: str) -> list[str]:
    """The lesion of each image: the one group of the regular expression `pattern`, searched in the file's stem.

    "" where the pattern does not match. ConfigError when it is not a pattern with one group or matches no file.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--lesion-pattern: {error}", hint=r"for example '^(lesion\d+)_'") from error
    if compiled.groups != 1:
        raise ConfigError(
            f"--lesion-pattern: {compiled.groups} groups, exactly one expected", hint=r"for example '^(lesion\d+)_'"
        )
    matches = [compiled.search(to_stem(image.name)) for image in found]
    if found and not any(matches):
        raise ConfigError(f"--lesion-pattern matches no file name, for example not {to_stem(found[0].name)!r}")
    return [match[1] or "" if match else "" for match in matches]
