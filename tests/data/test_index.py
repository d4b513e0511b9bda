"""A dataset as it may arrive: good, misnamed, damaged, inconsistent. Every refusal says what to do."""

from pathlib import Path

import pytest

from lesion.data.csvfile import SAVE
from lesion.data.index import read_index
from lesion.errors import DataError, LesionError, NotFoundError

HEADER = "lesion_id,image_id,dx\n"
GOOD = f"{HEADER}L1,a1,nv\nL1,a2,nv\nL2,a3,mel\n"


def make(folder: Path, table: str | bytes = GOOD, images: tuple[str, ...] = ("a1.jpg", "a2.jpg", "a3.jpg")) -> Path:
    """A dataset whose images are empty files: the index never opens them."""
    root = folder / "ham"
    (root / "HAM10000_images").mkdir(parents=True)
    (root / "HAM10000_metadata.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    for name in images:
        (root / "HAM10000_images" / name).touch()
    return root


def refuse(root: Path, kind: type[LesionError] = DataError) -> LesionError:
    with pytest.raises(kind) as caught:
        read_index(root)
    assert caught.value.exit_code == (66 if kind is NotFoundError else 65)
    assert str(root) in caught.value.message
    return caught.value


def ids(root: Path) -> list[str]:
    return [row.image_id for row in read_index(root)]


def test_a_good_dataset_gives_its_rows_in_order_with_paths(tmp_path: Path) -> None:
    root = make(tmp_path, f"{HEADER}L2,a3,mel\nL1,a1,nv\nL1,a2,nv\n")
    rows = read_index(root)
    assert [(row.image_id, row.lesion_id, row.dx) for row in rows] == [
        ("a3", "L2", "mel"),
        ("a1", "L1", "nv"),
        ("a2", "L1", "nv"),
    ]
    assert [row.path for row in rows] == [root / "HAM10000_images" / f"{name}.jpg" for name in ("a3", "a1", "a2")]
    assert {row.age for row in rows} == {""}


def test_the_synthetic_dataset_fills_all_columns(ham_root: Path) -> None:
    rows = read_index(ham_root)
    assert len(rows) > 70
    assert len({row.lesion_id for row in rows}) == 70
    assert all(row.path.is_file() and row.dx_type and row.sex and row.localization for row in rows)
    assert {row.dataset for row in rows} == {"synthetic"}


def test_a_missing_folder_is_not_found_and_the_hint_offers_a_synthetic_one(tmp_path: Path) -> None:
    error = refuse(tmp_path / "nope", NotFoundError)
    assert error.message == f"no data folder {tmp_path / 'nope'}"
    assert "data.root=" in error.hint
    assert "lesion data synth" in error.hint


def test_a_file_is_no_data_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refuse(tmp_path / "file", NotFoundError).message == f"no data folder {tmp_path / 'file'}"


def test_an_empty_folder_is_told_what_belongs_there(tmp_path: Path) -> None:
    error = refuse(tmp_path, NotFoundError)
    assert error.message == f"{tmp_path} has no HAM10000_metadata.csv"
    assert error.hint == "HAM10000_metadata.csv and HAM10000_images/ are expected there"


@pytest.mark.parametrize(
    "name", ["ham10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata", "metadata.csv"]
)
def test_a_misnamed_table_is_read_once_it_is_renamed(name: str, tmp_path: Path) -> None:
    root = make(tmp_path, GOOD.replace(",", "\t") if name.endswith(".tab") else GOOD)
    (root / "HAM10000_metadata.csv").rename(root / name)
    error = refuse(root, NotFoundError)
    assert error.message == f"{root} has no HAM10000_metadata.csv, only {name!r}"
    assert error.hint == "rename it to HAM10000_metadata.csv"
    (root / name).rename(root / "HAM10000_metadata.csv")
    assert ids(root) == ["a1", "a2", "a3"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("HAM10000_metadata.xlsx", b"PK\x03\x04", "is an Excel workbook or another ZIP archive, not a CSV file"),
        ("HAM10000_metadata_copy.csv", b"a,b\n1,2\n", "no column lesion_id, image_id, dx; found a, b"),
    ],
)
def test_nobody_is_told_to_rename_what_is_no_such_table(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    root = make(tmp_path)
    (root / "HAM10000_metadata.csv").unlink()
    (root / name).write_bytes(content)
    error = refuse(root, NotFoundError)
    assert "rename it" not in error.hint
    assert said in error.hint


@pytest.mark.parametrize("name", ["ham10000_images", "images"])
def test_a_misnamed_image_folder_is_read_once_it_is_renamed(name: str, tmp_path: Path) -> None:
    root = make(tmp_path)
    (root / "HAM10000_images").rename(root / name)
    error = refuse(root, NotFoundError)
    assert error.message == f"{root} has no HAM10000_images, only {name!r}"
    assert error.hint == "rename it to HAM10000_images"
    (root / name).rename(root / "HAM10000_images")
    assert ids(root) == ["a1", "a2", "a3"]


def test_images_in_the_folders_of_the_published_parts_are_found(tmp_path: Path) -> None:
    root = make(tmp_path)
    (root / "HAM10000_images").rename(root / "HAM10000_images_part_1")
    (root / "HAM10000_images_part_2").mkdir()
    (root / "HAM10000_images_part_1" / "a3.jpg").rename(root / "HAM10000_images_part_2" / "a3.jpg")
    (root / "ham10000_images_part_2").mkdir(exist_ok=True)  # as on Kaggle: each part once more
    (root / "ham10000_images_part_2" / "a3.jpg").touch()
    assert [row.path.relative_to(root).as_posix() for row in read_index(root)] == [
        "HAM10000_images_part_1/a1.jpg", "HAM10000_images_part_1/a2.jpg", "HAM10000_images_part_2/a3.jpg",
    ]  # fmt: skip


def test_two_files_of_one_id_are_named(tmp_path: Path) -> None:
    root = make(tmp_path, images=("a1.jpg", "a1.png", "a2.jpg", "a3.jpg"))
    error = refuse(root)
    assert error.message.endswith("ham: 1 image with several files: a1")
    (root / "HAM10000_images" / "a1.png").unlink()
    assert ids(root) == ["a1", "a2", "a3"]


def test_nobody_is_told_to_rename_the_images_to_the_table_or_the_table_to_the_images(tmp_path: Path) -> None:
    root = make(tmp_path)
    table = root / "HAM10000_metadata.csv"
    content = table.read_bytes()
    table.unlink()
    assert "rename" not in refuse(root, NotFoundError).hint
    table.write_bytes(content)
    for image in (root / "HAM10000_images").iterdir():
        image.unlink()
    (root / "HAM10000_images").rmdir()
    assert "rename" not in refuse(root, NotFoundError).hint


def test_a_file_in_place_of_the_image_folder_and_a_folder_in_place_of_the_table_are_refused(tmp_path: Path) -> None:
    root = make(tmp_path, images=())
    (root / "HAM10000_images").rmdir()
    (root / "HAM10000_images").touch()
    assert "has no HAM10000_images" in refuse(root, NotFoundError).message
    (root / "HAM10000_metadata.csv").unlink()
    (root / "HAM10000_metadata.csv").mkdir()
    assert "has no HAM10000_metadata.csv" in refuse(root, NotFoundError).message


def test_a_folder_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path)

    def deny(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", deny)
    error = refuse(root)
    assert error.message == f"cannot read {root}: Permission denied"
    assert error.hint == "check its permissions"


def test_a_missing_column_is_named_together_with_those_found(tmp_path: Path) -> None:
    error = refuse(make(tmp_path, "lesion_id,image,diagnosis,age\nL1,a1,nv,45\n"))
    assert error.message.endswith(
        "HAM10000_metadata.csv: no column image_id, dx; found lesion_id, image, diagnosis, age"
    )
    assert "name them lesion_id, image_id, dx" in error.hint


@pytest.mark.parametrize("column", ["dx", "image_id", "age"])
def test_a_repeated_column_is_refused(column: str, tmp_path: Path) -> None:
    error = refuse(make(tmp_path, f"lesion_id,image_id,dx,age,{column}\nL1,a1,nv,45,mel\n"))
    assert error.message.endswith(f"HAM10000_metadata.csv: column {column!r} repeated")


@pytest.mark.parametrize(
    "table",
    [
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.rstrip("\n").encode(),
        (GOOD + "\n\n").encode(),
        GOOD.replace(",", " , ").encode(),
        b'"lesion_id","image_id","dx"\n"L1","a1","nv"\n"L1","a2","nv"\n"L2","a3","mel"\n',
        b"dx,nonsense,image_id,lesion_id\nnv,x,a1,L1\nnv,y,a2,L1\nmel,z,a3,L2\n",
        GOOD.replace(",", ";").encode(),
        GOOD.replace(",", "\t").encode(),
        ("sep=;\r\n" + GOOD.replace(",", ";")).encode(),
        GOOD.replace("\n", ",,\n").encode() + b",,,,\n",
    ],
    ids=[
        "BOM",
        "CRLF",
        "no last newline",
        "blank lines",
        "spaces",
        "quotes",
        "other order and more columns",
        "semicolons",
        "tabs",
        "separator line",
        "empty columns and rows",
    ],
)
def test_harmless_variations_are_read_the_same(table: bytes, tmp_path: Path) -> None:
    rows = read_index(make(tmp_path, table))
    assert [(row.lesion_id, row.image_id, row.dx) for row in rows] == [
        ("L1", "a1", "nv"),
        ("L1", "a2", "nv"),
        ("L2", "a3", "mel"),
    ]


def test_quoted_fields_may_hold_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    table = 'lesion_id,image_id,dx,localization\nL1,a1,nv,"left, ""upper""\narm"\nL2,a2,mel,back\n'
    assert [row.localization for row in read_index(make(tmp_path, table))] == ['left, "upper"\narm', "back"]


@pytest.mark.parametrize("extension", [".JPG", ".jpeg", ".png", ".PNG"])
def test_other_image_extensions_are_found(extension: str, tmp_path: Path) -> None:
    root = make(tmp_path, images=tuple(f"a{i}{extension}" for i in (1, 2, 3)))
    assert [row.path.name for row in read_index(root)] == [f"a{i}{extension}" for i in (1, 2, 3)]


def test_images_and_files_that_are_not_listed_are_ignored(tmp_path: Path) -> None:
    root = make(tmp_path, images=("a1.jpg", "a2.jpg", "a3.jpg", "a4.jpg", "README.txt", "a1.txt", ".DS_Store"))
    assert ids(root) == ["a1", "a2", "a3"]
    assert {row.path.suffix for row in read_index(root)} == {".jpg"}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (GOOD.encode() + b"L3,a4,nv # caf\xe9\n", "byte 65: not utf-8"),
        (GOOD.encode("utf-16"), "is UTF-16, not utf-8"),
        (GOOD.encode("utf-16-le"), "has zero bytes"),
        (b"\x89PNG\r\n\x1a\n\x00", "is a PNG image, not a CSV file"),
    ],
    ids=["latin-1", "utf-16", "utf-16 without mark", "PNG"],
)
def test_a_table_that_is_not_utf8_is_refused(table: bytes, said: str, tmp_path: Path) -> None:
    error = refuse(make(tmp_path, table))
    assert error.message.startswith(str(tmp_path / "ham" / "HAM10000_metadata.csv"))
    assert said in error.message
    assert error.hint == SAVE


def test_nul_bytes_are_refused(tmp_path: Path) -> None:
    refuse(make(tmp_path, GOOD.replace("mel", "m\0l")))
    refuse(make(tmp_path / "id", GOOD.replace("a1", "a\0")))


@pytest.mark.parametrize("table", ["", "\n\n", "   \n"], ids=["empty", "blank lines", "spaces"])
def test_an_empty_table_has_no_columns(table: str, tmp_path: Path) -> None:
    assert "no column lesion_id, image_id, dx; found nothing" in refuse(make(tmp_path, table)).message


def test_a_table_of_only_a_header_has_no_rows(tmp_path: Path) -> None:
    assert refuse(make(tmp_path, HEADER)).message.endswith("HAM10000_metadata.csv has no rows")


@pytest.mark.parametrize("row", ["L3,a4", "L3", "L3,a4,nv,more"], ids=["short", "one", "long"])
def test_a_row_with_too_few_or_too_many_fields_is_named_by_its_line(row: str, tmp_path: Path) -> None:
    message = refuse(make(tmp_path, f"{GOOD}{row}\nL4,a5,nv\n")).message
    assert message.endswith(f"HAM10000_metadata.csv, line 5: 3 columns expected, got {row.count(',') + 1}")


@pytest.mark.parametrize(
    "table", [f'{GOOD}"L3,a4,nv\n', f'{GOOD}"L3"x,a4,nv\n', f"{GOOD}L3,{'a' * 200_000},nv\n"],
    ids=["unclosed quote", "text behind a quote", "huge field"],
)  # fmt: skip
def test_a_table_that_is_no_csv_is_refused_with_its_line(table: str, tmp_path: Path) -> None:
    error = refuse(make(tmp_path, table))
    assert "HAM10000_metadata.csv, line " in error.message
    assert error.hint == SAVE


def test_an_image_listed_twice_is_named(tmp_path: Path) -> None:
    error = refuse(make(tmp_path, f"{GOOD}L1,a1,nv\nL1,a1,nv\n"))
    assert error.message.endswith("ham: 1 image listed twice: a1")
    assert error.hint.startswith("remove the repeated rows; ")


@pytest.mark.parametrize("dx", ["scc", "NV", ""], ids=["unknown", "upper case", "empty"])
def test_an_unknown_diagnosis_names_the_image_and_the_known_ones(dx: str, tmp_path: Path) -> None:
    error = refuse(make(tmp_path, GOOD.replace("mel", dx)))
    assert error.message.endswith("ham: 1 image with an unknown diagnosis (dx): a3")
    assert error.hint.startswith("write one of akiec, bcc, bkl, df, mel, nv, vasc; ")


def test_a_lesion_with_two_diagnoses_is_named(tmp_path: Path) -> None:
    table = f"{HEADER}L1,a1,nv\nL2,a2,nv\nL2,a3,mel\nL2,a4,bkl\nL1,a5,nv\nL3,a6,nv\nL3,a7,df\n"
    error = refuse(make(tmp_path, table))
    assert error.message.endswith("ham: 2 lesions with two diagnoses: L2, L3")
    assert "not a patient" in error.hint


def test_absent_images_are_counted_and_the_first_three_named(tmp_path: Path) -> None:
    table = HEADER + "".join(f"L{i},a{i},nv\n" for i in range(1, 8))
    error = refuse(make(tmp_path, table))
    assert error.message.endswith("ham: 4 images listed but absent: a4, a5, a6, …")
    assert error.hint.startswith("complete HAM10000_images/; ")


def test_few_absent_images_are_all_named(tmp_path: Path) -> None:
    assert refuse(make(tmp_path, images=("a1.jpg",))).message.endswith("2 images listed but absent: a2, a3")


@pytest.mark.parametrize(
    "name", ["../a1", "..", ".", "a/b", "a\\b", "/etc/passwd", "a1.jpg", "a 1", "a:b", "%2e%2e", "a\u202e1", "a*"]
)
def test_an_id_that_could_leave_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    error = refuse(make(tmp_path, f"{HEADER}L1,{name},nv\n", images=("a1.jpg",)))
    assert error.message.endswith(f"HAM10000_metadata.csv: {name!r} is not an image id")
    assert error.hint.startswith("use letters, digits, _ and -; ")


@pytest.mark.parametrize("row", [",a1,nv", "L1,,nv", "  ,a1,nv"])
def test_an_empty_id_is_refused(row: str, tmp_path: Path) -> None:
    assert "a row with an empty image_id or lesion_id" in refuse(make(tmp_path, f"{HEADER}{row}\n")).message
