"""Datasets of other shapes, read in their own words: class folders, a table, the ground truth of ISIC 2018 and 2019."""

import codecs
import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lesion.data.catalog import Catalog, LeftOut, list_files, to_name, to_stem
from lesion.data.index import MAX_TABLE_BYTES
from lesion.errors import ConfigError, DataError, NotFoundError
from lesion.files import read_regular
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
    records = read_table(table, encoding)
    for field in ("image", "label"):
        if not columns.get(field):
            raise ConfigError(
                f"--{field}-column is missing: which column of {table} has the {field}?",
                hint=f"its columns: {', '.join(records[0])}",
            )
    names = {name: name for name in records[0]}
    chosen = {field: lookup(names, name, f"column of {table}") for field, name in columns.items() if name}
    rows = [{field: record[name] for field, name in chosen.items()} for record in records]
    for row in rows:
        row["label"] = row["label"] or NO_LABEL
    return _match(source, rows, table, left_out)


def read_isic(source: Path, truth: Path, more: Path | None, encoding: str, left_out: LeftOut) -> list[Found]:
    """Images of ISIC's one-hot ground truth, with lesions and metadata from its second file, if given.

    Raises:
        DataError: a file is damaged or no ground truth, or a row has not exactly one class.
    """
    records = read_table(truth, encoding)
    classes = [name for name in records[0] if name.upper() in ISIC_CLASSES]
    if "image" not in records[0] or len(classes) < 2:
        raise DataError(
            f"{truth} is not ISIC's ground truth: a column image and one per class expected, found "
            f"{', '.join(records[0])}",
            hint=f"classes: {', '.join(ISIC_CLASSES)}; for another table use --csv",
        )
    facts = _read_facts(more, encoding) if more else {}
    rows = []
    for record in records:
        marks = [name for name in classes if _is_marked(record[name], truth)]
        if len(marks) != 1:
            raise DataError(f"{truth}: {record['image']} has {len(marks)} classes, exactly one expected")
        fact = facts.get(record["image"], {})
        extra = {field: fact.get(column, "") for field, column in ISIC_COLUMNS.items()}
        rows.append({"image": record["image"], "label": marks[0], **extra})
    return _match(source, rows, truth, left_out)


def _read_facts(path: Path, encoding: str) -> dict[str, dict[str, str]]:
    records = read_table(path, encoding)
    facts = {record.get("image", ""): record for record in records}
    if "" in facts or len(facts) < len(records):
        raise DataError(f"{path}: a column image, with another value in each row, expected")
    return facts


def _is_marked(value: str, truth: Path) -> bool:
    if value not in ("0", "0.0", "1", "1.0"):
        raise DataError(f"{truth}: 0 or 1 expected in the columns of the classes, got {value!r}")
    return value.startswith("1")


def _match(source: Path, rows: Sequence[Mapping[str, str]], table: Path, left_out: LeftOut) -> list[Found]:
    files = list_files(source, left_out)
    catalog = Catalog(files)
    found, used, unclear = [], set(), []
    for row in rows:
        name = row["image"]
        if not name:
            raise DataError(f"{table}: a row without an image")
        if re.match(r"[/\\]|[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
            raise DataError(
                f"{table}: the image {name!r} is not inside {source}",
                hint="name images by their path relative to SOURCE, or by their stem",
            )
        meant = catalog.find(name)
        if len(meant) > 1:
            unclear.append(f"{name} ({', '.join(map(str, meant[:3]))})")
        path = meant[0] if meant else None
        used.add(path)
        facts = {field: value for field, value in row.items() if field != "image"}
        found.append(Found(to_name(path.as_posix()) if path else name, source / path if path else Path(), **facts))
    if unclear:
        raise DataError(
            f"{table}: {len(unclear)} image{'s' * (len(unclear) > 1)} with several files: {'; '.join(unclear[:3])}",
            hint="give their paths relative to SOURCE, or name the folder that holds only the images",
        )
    if rest := [to_name(path.as_posix()) for path in files if path not in used]:
        left_out["in no row of the table"].extend(rest)
    return found


def read_table(path: Path, encoding: str = "utf-8") -> list[dict[str, str]]:
    """The rows of a CSV with a header, as stripped text; separated by commas, semicolons or tabs.

    Raises:
        NotFoundError: no such file.
        ConfigError: no such encoding.
        DataError: another encoding, a damaged row, a repeated column, or no rows.
    """
    try:
        raw = read_regular(path, MAX_TABLE_BYTES)
    except FileNotFoundError as error:
        raise NotFoundError(f"no such table: {path}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    reader = csv.reader(io.StringIO(_decode(raw, path, encoding), newline=""), strict=True)
    try:
        header = next(reader, [])
        if len(header) == 1 and (mark := next((mark for mark in ";\t" if mark in header[0]), "")):
            reader = csv.reader(io.StringIO(_decode(raw, path, encoding), newline=""), strict=True, delimiter=mark)
            header = next(reader)
        names = [name.strip() for name in header]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"{path}: column {repeated[0]!r} repeated", hint="keep one column of each name")
        table = []
        for values in reader:
            if len(values) not in (0, len(names)):  # 0: an empty line
                raise DataError(f"{path}, line {reader.line_num}: {len(names)} columns expected, got {len(values)}")
            if values:
                table.append({name: value.strip() for name, value in zip(names, values, strict=True)})
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}", hint="save it as CSV in UTF-8") from error
    if not table:
        raise DataError(f"{path} has no rows", hint="a header and one row per image are expected")
    return table


def _decode(raw: bytes, path: Path, encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        if name == "utf-8":
            name = "utf-8-sig"
            if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise DataError(f"{path} is UTF-16, not UTF-8", hint="add --encoding utf-16, or save it as UTF-8")
        return raw.decode(name)
    except LookupError as error:
        raise ConfigError(f"--encoding: no encoding {encoding!r}", hint="for example utf-8 or cp1252") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, byte {error.start + 1}: not {encoding}",
            hint="save it as UTF-8 or name its encoding: Excel on Windows writes --encoding cp1252",
        ) from error


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
