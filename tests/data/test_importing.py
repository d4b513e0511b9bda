"""Each form of a source becomes a dataset that the rest can use, or is refused and leaves nothing."""

import csv
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lesion.config.schema import DataConfig
from lesion.data import layout
from lesion.data.cleaning import Blanked, to_age, to_id, to_sex, to_words
from lesion.data.importing import ImportSpec, import_dataset
from lesion.data.index import read_index
from lesion.errors import ConfigError, DataError, LesionError, NotFoundError, OutputError
from lesion.records import ImportReport
from tests.conftest import Cli

posix = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege, pipes do not exist")

NAMES = {
    "mel": "Melanoma", "nv": "Naevi", "bcc": "Basal cell carcinoma", "akiec": "AK", "bkl": "Seborrhoeic keratosis",
    "df": "dermatofibroma", "vasc": "Vascular",
}  # fmt: skip
COLUMNS = {"image": "file", "label": "diagnosis", "lesion": "lesion"}


def draw(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.radial_gradient("L").resize((48, 40)).rotate(shade * 37).convert("RGB").save(path)
    return path


def write_csv(path: Path, *rows: Sequence[object], encoding: str = "utf-8", mark: str = ",") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=mark).writerows(rows)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Class folders: two lesions of two images for each diagnosis, and one more."""
    shade = 0
    for name in NAMES.values():
        for lesion in range(3):
            for shot in "ab":
                shade += 1
                draw(tmp_path / "source" / name / f"{name[:3]}{lesion}_{shot}.{'png' if shot == 'b' else 'jpg'}", shade)
    return tmp_path / "source"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "made" / "root"


def spec(**fields: Any) -> ImportSpec:
    return ImportSpec(**fields)


def assert_usable(root: Path, report: ImportReport) -> None:
    from lesion.data.split import open_dataset

    rows = read_index(root)
    assert (len(rows), len({row.lesion_id for row in rows})) == (report.images, report.lesions)
    data = open_dataset(DataConfig(root=str(root), near_duplicates=False, workers=1))
    lesions = [{row.lesion_id for row in members} for members in data.members.values()]
    assert all(lesions)
    assert sum(map(len, lesions)) == report.lesions  # none of them twice


def test_class_folders(source: Path, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    report = import_dataset(source, root, spec())
    assert (report.images, report.lesions, report.own_lesions) == (42, 42, 42)
    assert report.diagnoses == dict.fromkeys(report.diagnoses, 6)
    assert set(report.diagnoses) == set(NAMES)
    assert "leakage between the splits cannot be excluded" in caplog.text
    assert json.loads((root / "import.json").read_text("utf-8"))["labels"]["Naevi"] == "nv"
    assert_usable(root, report)


def test_a_pattern_in_the_name_finds_the_lesions(source: Path, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    report = import_dataset(source, root, spec(lesion_pattern=r"^(.+)_[ab]$"))
    assert (report.images, report.lesions, report.own_lesions) == (42, 21, 0)
    assert caplog.text == ""
    assert_usable(root, report)


def test_folders_named_like_splits_are_looked_through(tmp_path: Path, root: Path) -> None:
    draw(tmp_path / "source" / "train" / "mel" / "patient 1" / "a.jpg")
    draw(tmp_path / "source" / "Test" / "nevus" / "b.jpg")
    assert import_dataset(tmp_path / "source", root, spec()).diagnoses == {"mel": 1, "nv": 1}


@pytest.fixture
def table(source: Path, tmp_path: Path) -> Path:
    """A table over the same images: by relative path, file name or stem."""
    files = sorted(source.rglob("*.*"))
    names = [
        path.relative_to(source).as_posix() if i % 3 == 0 else path.name if i % 3 == 1 else path.stem
        for i, path in enumerate(files)
    ]
    rows = [
        (name, path.parent.name, f"L/{path.stem[:-2]}", "45" if i % 2 else "n/a", "F" if i % 2 else "", "=Back+1")
        for i, (name, path) in enumerate(zip(names, files, strict=True))
    ]
    return write_csv(tmp_path / "t.csv", ("file", "diagnosis", "lesion", "age", "sex", "site"), *rows)


def test_a_table_with_columns_of_any_name(source: Path, table: Path, root: Path) -> None:
    draw(source / "more" / "unlisted.jpg")
    columns = {**COLUMNS, "age": "age", "sex": "sex", "site": "site"}
    report = import_dataset(source, root, spec(csv=table, columns=columns))
    assert (report.images, report.lesions, report.own_lesions) == (42, 21, 0)
    assert report.left_out == {"in no row of the table": ["more/unlisted.jpg"]}
    row = read_index(root)[1]
    assert (row.age, row.sex, row.localization) == ("45.0", "female", "back 1")
    assert row.lesion_id.startswith("L_")
    assert_usable(root, report)


@pytest.mark.parametrize(("encoding", "mark"), [("utf-8-sig", ","), ("utf-8", ";"), ("utf-8-sig", "\t")])
def test_tables_as_spreadsheets_write_them(tmp_path: Path, root: Path, encoding: str, mark: str) -> None:
    draw(tmp_path / "source" / "a.jpg")
    rows = (("file", "diagnosis", "lesion"), ("a", "nævus", "1"))
    table = write_csv(tmp_path / "t.csv", *rows, encoding=encoding, mark=mark)
    assert import_dataset(tmp_path / "source", root, spec(csv=table, columns=COLUMNS)).diagnoses == {"nv": 1}


def make_isic(tmp_path: Path, classes: str) -> tuple[Path, Path]:
    names = classes.split()
    rows = []
    for i in range(3 * len(names)):
        draw(tmp_path / "source" / f"ISIC_{i:07d}.jpg", i)
        rows.append([f"ISIC_{i:07d}", *(float(j == i % len(names)) for j in range(len(names)))])
    truth = write_csv(tmp_path / "truth.csv", ("image", *names), *rows)
    facts = [(row[0], f"HAM_{i}", "histopathology", 50, "male", "") for i, row in enumerate(rows)]
    header = ("image", "lesion_id", "diagnosis_confirm_type", "age_approx", "sex", "anatom_site_general")
    return truth, write_csv(tmp_path / "facts.csv", header, *facts)


def test_isic_2018_with_its_lesions(tmp_path: Path, root: Path) -> None:
    truth, facts = make_isic(tmp_path, "MEL NV BCC AKIEC BKL DF VASC")
    report = import_dataset(tmp_path / "source", root, spec(isic=truth, metadata=facts))
    assert report.diagnoses == dict.fromkeys(NAMES, 3)
    assert (report.lesions, report.own_lesions) == (21, 0)
    assert {(row.dx_type, row.age, row.localization) for row in read_index(root)} == {("histo", "50.0", "unknown")}
    assert_usable(root, report)


def test_isic_2019_asks_what_scc_shall_be(tmp_path: Path, root: Path) -> None:
    truth, _ = make_isic(tmp_path, "MEL NV BCC AK BKL DF VASC SCC UNK")
    with pytest.raises(DataError, match="2 unknown labels: 'SCC' \\(3 images, invasive"):
        import_dataset(tmp_path / "source", root, spec(isic=truth))
    report = import_dataset(tmp_path / "source", root, spec(isic=truth, map=["SCC=akiec", "UNK=skip"]))
    assert report.diagnoses["akiec"] == 6
    assert {why: len(names) for why, names in report.left_out.items()} == {"labelled 'UNK', which --map skips": 3}
    assert_usable(root, report)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("ISIC_0000000,1.0", "ISIC_0000000,0.0"), "has 0 classes"),
        (("ISIC_0000000,1.0,0.0", "ISIC_0000000,1.0,1.0"), "has 2 classes"),
        (("ISIC_0000000,1.0", "ISIC_0000000,0.7"), "0 or 1 expected"),
        (("image,", "id,"), "not ISIC's ground truth"),
        (("ISIC_0000001,", "ISIC_0000000,"), "1 image id more than once"),
    ],
)
def test_a_damaged_ground_truth_is_refused(tmp_path: Path, root: Path, change: tuple[str, str], said: str) -> None:
    truth, _ = make_isic(tmp_path, "MEL NV")
    truth.write_text(truth.read_text("utf-8").replace(*change), "utf-8")
    with pytest.raises(DataError, match=said):
        import_dataset(tmp_path / "source", root, spec(isic=truth))
    assert not root.exists()


@pytest.mark.parametrize("link", [False, pytest.param(True, marks=posix)])
def test_images_are_copied_or_linked_and_named_by_their_bytes(tmp_path: Path, root: Path, link: bool) -> None:
    draw(tmp_path / "source" / "mel" / "a.png").rename(tmp_path / "source" / "mel" / "a.JPG")
    before = (tmp_path / "source" / "mel" / "a.JPG").read_bytes()
    assert import_dataset(tmp_path / "source", root, spec(link=link)).linked is link
    made = root / "HAM10000_images" / "a.png"
    assert made.is_symlink() is link
    assert made.read_bytes() == before == (tmp_path / "source" / "mel" / "a.JPG").read_bytes()


def test_ids_are_made_safe_and_told(tmp_path: Path, root: Path) -> None:
    for name in ("=cmd x!A1.jpg", "-rf.jpg", "Foto (1).jpg", "plain-1.jpg"):
        draw(tmp_path / "source" / "mel" / name)
    report = import_dataset(tmp_path / "source", root, spec())

    assert report.renamed == {"rf": "mel/-rf.jpg", "_cmd_x_A1": "mel/=cmd x!A1.jpg", "Foto__1_": "mel/Foto (1).jpg"}
    assert len(read_index(root)) == 4


def test_two_files_of_one_stem_need_a_prefix(tmp_path: Path, root: Path) -> None:
    draw(tmp_path / "source" / "mel" / "1.jpg")
    draw(tmp_path / "source" / "nv" / "1.jpg")
    with pytest.raises(DataError, match=r"1 image id more than once: 1 \(mel/1.jpg, nv/1.jpg\)") as caught:
        import_dataset(tmp_path / "source", root, spec())
    assert "--prefix" in caught.value.hint
    import_dataset(tmp_path / "source", root, spec(prefix=True))
    assert [row.image_id for row in read_index(root)] == ["mel_1", "nv_1"]


def test_a_stem_in_a_table_that_fits_two_files_is_refused(tmp_path: Path, root: Path) -> None:
    draw(tmp_path / "source" / "images" / "a.jpg")
    draw(tmp_path / "source" / "masks" / "a.png")
    table = write_csv(tmp_path / "t.csv", ("file", "diagnosis", "lesion"), ("a", "mel", "1"))
    with pytest.raises(DataError, match="1 image with several files"):
        import_dataset(tmp_path / "source", root, spec(csv=table, columns=COLUMNS))
    table = write_csv(tmp_path / "t.csv", ("file", "diagnosis", "lesion"), ("images\\a.jpg", "mel", "1"))
    report = import_dataset(tmp_path / "source", root, spec(csv=table, columns=COLUMNS))
    assert report.left_out == {"in no row of the table": ["masks/a.png"]}


@posix
def test_unusable_images_are_refused_or_left_out_and_listed(tmp_path: Path, root: Path) -> None:
    source = tmp_path / "source"
    draw(source / "mel" / "good.jpg")
    draw(source / "mel" / "photo.bmp")
    (source / "mel" / "empty.png").touch()
    (source / "mel" / "page.jpg").write_text("<html>")
    (source / "mel" / "gone.jpg").symlink_to(source / "nowhere.jpg")
    os.mkfifo(source / "mel" / "pipe.jpg")
    (source / "mel" / "Thumbs.db").touch()
    (source / "mel" / ".hidden.jpg").touch()
    draw(source / "loose.jpg")
    with pytest.raises(DataError, match="5 images cannot be used") as caught:
        import_dataset(source, root, spec())
    assert "--skip-unusable" in caught.value.hint
    assert not root.exists()
    report = import_dataset(source, root, spec(skip_unusable=True))
    assert report.images == 1
    unusable = ["mel/empty.png", "mel/gone.jpg", "mel/page.jpg", "mel/photo.bmp", "mel/pipe.jpg"]
    assert report.left_out == {
        "hidden": ["mel/.hidden.jpg"],
        "in no class folder": ["loose.jpg"],
        "no readable JPEG or PNG": unusable,
        "not named like an image": ["mel/Thumbs.db"],
    }


def test_an_image_that_a_table_names_and_nobody_has(tmp_path: Path, root: Path) -> None:
    draw(tmp_path / "source" / "a.jpg")
    table = write_csv(tmp_path / "t.csv", ("file", "diagnosis", "lesion"), ("a", "mel", "1"), ("=1+1", "mel", "2"))
    with pytest.raises(DataError, match=r"1 image cannot be used: =1\+1 \(absent\)"):
        import_dataset(tmp_path / "source", root, spec(csv=table, columns=COLUMNS))
    report = import_dataset(tmp_path / "source", root, spec(csv=table, columns=COLUMNS, skip_unusable=True))
    assert report.left_out == {"absent": ["=1+1"]}


@pytest.mark.parametrize(
    ("rows", "kind", "said"),
    [
        ([("a", "mel", "1"), ("a.jpg", "mel", "1")], DataError, "1 image id more than once"),
        ([("a", "mel", "1"), ("b", "nv", "1")], DataError, "1 lesion with two diagnoses"),
        ([("a", "mel", "x/1"), ("b", "nv", "x 1")], DataError, "1 lesion id more than once"),
        ([("../a", "mel", "1")], DataError, "is not inside"),
        ([("/etc/passwd", "mel", "1")], DataError, "is not inside"),
        ([("C:\\a.jpg", "mel", "1")], DataError, "is not inside"),
        ([("a", "mel", "1"), ("", "mel", "1")], DataError, "line 3: no image is named"),
        ([("a", "", "1")], DataError, "'unlabelled'"),
        ([("a", "mel")], DataError, "line 2: 3 columns expected, got 2"),
        ([("a", "mel", "1", "4")], DataError, "line 2: 3 columns expected, got 4"),
        ([], DataError, "has no rows"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused(
    tmp_path: Path, root: Path, rows: list[tuple[str, ...]], kind: type[LesionError], said: str
) -> None:
    draw(tmp_path / "source" / "a.jpg")
    draw(tmp_path / "source" / "b.jpg")
    table = write_csv(tmp_path / "t.csv", ("file", "diagnosis", "lesion"), *rows)
    with pytest.raises(kind, match=said):
        import_dataset(tmp_path / "source", root, spec(csv=table, columns=COLUMNS))
    assert not root.exists()


@pytest.mark.parametrize(
    ("fields", "kind", "said"),
    [
        ({"columns": {"label": "diagnosis"}}, ConfigError, "--image-column is missing"),
        ({"columns": {**COLUMNS, "label": "diagnose"}}, ConfigError, "did you mean 'diagnosis'"),
        ({"columns": COLUMNS, "encoding": "nonsense"}, ConfigError, "no encoding"),
        ({"columns": COLUMNS, "isic": Path("x")}, ConfigError, "contradict"),
        ({"columns": COLUMNS, "metadata": Path("x")}, ConfigError, "belongs to --isic"),
        ({"columns": COLUMNS, "lesion_pattern": "("}, ConfigError, "--lesion-pattern"),
        ({"columns": COLUMNS, "lesion_pattern": "a"}, ConfigError, "0 groups"),
        ({"columns": COLUMNS, "lesion_pattern": "(q)"}, ConfigError, "matches no file name"),
        ({"columns": COLUMNS, "csv": Path("nowhere.csv")}, NotFoundError, "no such table"),
        ({"columns": COLUMNS, "csv": None}, ConfigError, "needs --csv"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, root: Path, fields: dict[str, Any], kind: type[LesionError], said: str
) -> None:
    draw(tmp_path / "source" / "a.jpg")
    table = write_csv(tmp_path / "t.csv", ("file", "diagnosis", "lesion"), ("a", "mel", "1"))
    with pytest.raises(kind, match=said):
        import_dataset(tmp_path / "source", root, spec(**{"csv": table, **fields}))
    assert not root.exists()


@pytest.mark.parametrize(("inner", "outer"), [("source", "."), (".", "source/made"), ("source", "source")])
def test_source_and_root_must_lie_apart(tmp_path: Path, inner: str, outer: str) -> None:
    draw(tmp_path / "source" / "mel" / "a.jpg")
    with pytest.raises(OutputError, match="one inside the other"):
        import_dataset(tmp_path / inner, tmp_path / outer, spec())


def test_a_dataset_is_never_overwritten(source: Path, ham_copy: Path) -> None:
    before = sorted(path.name for path in ham_copy.rglob("*"))
    with pytest.raises(OutputError, match="exists"):
        import_dataset(source, ham_copy, spec())
    assert sorted(path.name for path in ham_copy.rglob("*")) == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_import_leaves_nothing(
    source: Path, root: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    copied = []

    def fail(source: Path, target: Path) -> None:
        copied.append(target.write_bytes(b"half"))
        if len(copied) == 5:
            raise error

    monkeypatch.setattr(layout.shutil, "copyfile", fail)
    with pytest.raises((OutputError, KeyboardInterrupt)):
        import_dataset(source, root, spec())
    monkeypatch.undo()
    assert len(copied) == 5
    assert not root.exists()
    (root / layout.STAGING).mkdir(parents=True)
    (root / layout.STAGING / "left.jpg").touch()  # by one that was killed
    assert import_dataset(source, root, spec()).images == len(list((root / "HAM10000_images").iterdir()))


def test_metadata_that_cannot_be_written_leaves_nothing(
    source: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, content: str) -> None:
        if path.name == "HAM10000_metadata.csv":
            raise OutputError("disk full")
        path.write_text(content)

    monkeypatch.setattr(layout, "write_atomic", fail)
    root.mkdir(parents=True)
    (root / "mine.txt").touch()
    with pytest.raises(OutputError, match="disk full"):
        import_dataset(source, root, spec())
    assert [path.name for path in root.iterdir()] == ["mine.txt"]


@posix
def test_a_full_disk_is_seen_before_the_first_copy(source: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(OutputError, match="are free") as caught:
        import_dataset(source, root, spec())
    assert "--link" in caught.value.hint
    assert import_dataset(source, root, spec(link=True)).images == 42


def test_an_unreadable_folder_is_an_error_not_a_gap(source: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.iterdir

    def refuse(path: Path) -> Any:
        if path.name == "Naevi":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"cannot read .*Naevi: Permission denied"):
        import_dataset(source, root, spec())


@posix
def test_a_folder_that_links_to_itself_ends(tmp_path: Path, root: Path) -> None:
    draw(tmp_path / "source" / "mel" / "a.jpg")
    (tmp_path / "source" / "mel" / "again").symlink_to(tmp_path / "source")
    report = import_dataset(tmp_path / "source", root, spec())
    assert (report.images, report.left_out) == (1, {"a folder met before, behind a link": ["mel/again"]})


def test_no_source_and_an_empty_source(tmp_path: Path, root: Path) -> None:
    with pytest.raises(NotFoundError, match="no such folder"):
        import_dataset(tmp_path / "source", root, spec())
    (tmp_path / "source").mkdir()
    with pytest.raises(DataError, match="no images in class folders"):
        import_dataset(tmp_path / "source", root, spec())


def test_an_own_lesion_never_joins_a_given_one(tmp_path: Path, root: Path) -> None:
    draw(tmp_path / "source" / "a.jpg")
    draw(tmp_path / "source" / "b.jpg")
    table = write_csv(tmp_path / "t.csv", ("file", "diagnosis", "lesion"), ("a", "mel", "unknown"), ("b", "mel", "a"))
    report = import_dataset(tmp_path / "source", root, spec(csv=table, columns=COLUMNS))
    assert (report.lesions, report.own_lesions) == (2, 1)


def test_values_become_ham10000s() -> None:
    blanked: Blanked = defaultdict(Counter)
    assert [to_age(age, blanked) for age in ("45", "45,5", "0", "nan", "old", "-3", "300", "inf")] == [
        "45.0", "45.5", "0.0", "", "", "", "", "",
    ]  # fmt: skip
    words = ("M", "Female", "w", "Männlich", "FÉMININ", "h", "donna", "", "x", "divers", "x")
    assert [to_sex(word, blanked) for word in words] == [
        "male", "female", "female", "male", "female", "male", "female", *["unknown"] * 4
    ]  # fmt: skip
    assert blanked == {"age": {"old": 1, "-3": 1, "300": 1, "inf": 1}, "sex": {"x": 2, "divers": 1}}
    assert to_words("=HYPERLINK(1)\n") == "hyperlink(1)"
    assert to_id("Cafe\u0301 1") == "Café_1"
    with pytest.raises(DataError, match="no id"):
        to_id("---")


@pytest.mark.parametrize(("men", "m"), [("f", "male"), ("h", "unknown")], ids=["female-male", "hombre-mujer"])
def test_m_is_male_unless_the_column_has_h_for_men(tmp_path: Path, root: Path, men: str, m: str, cli: Cli) -> None:
    for name in "ab":
        draw(tmp_path / "source" / f"{name}.jpg")
    table = write_csv(tmp_path / "t.csv", ("file", "diagnosis", "sex"), ("a", "mel", men), ("b", "mel", "m"))
    words = ("--csv", table, "--image-column", "file", "--label-column", "diagnosis", "--sex-column", "sex")
    outcome = cli("data", "import", tmp_path / "source", root, *words)
    assert outcome.code == 0, outcome.err
    assert read_index(root)[1].sex == m
    assert ("sex: 1 values not understood and left empty ('m')" in outcome.out) is (m == "unknown")


def test_masks_beside_images_are_told(tmp_path: Path, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("benign (1).png", "benign (1)_mask.png", "benign (1)_mask_1.png", "gas mask.png", "2.png"):
        draw(tmp_path / "source" / "nv" / name)
    assert import_dataset(tmp_path / "source", root, spec()).images == 5
    assert "2 images look like masks of others, for example nv/benign (1)_mask.png" in caplog.text


@posix
def test_a_name_that_is_too_long_for_a_file_is_told_with_its_file(tmp_path: Path, root: Path) -> None:
    folder = tmp_path / "source" / "nv" / ("x" * 150) / ("y" * 150)
    draw(folder / "a.jpg")
    with pytest.raises(OutputError, match=r"cannot write nv_x+_y+_a.jpg into .*: File name too long") as caught:
        import_dataset(tmp_path / "source", root, spec(prefix=True))
    assert f"shorten the name of {folder / 'a.jpg'}, or of its folders" in caught.value.hint
    assert not root.exists()


@posix
def test_the_command_says_what_it_did_and_what_it_left(source: Path, root: Path, cli: Cli) -> None:
    (source / "AK" / "notes [b].txt").touch()
    outcome = cli("data", "import", source, root, "--map", "Vascular=skip", "--lesion-pattern", "^(.+)_")
    assert outcome.code == 0
    assert f"{root}: 36 images of 18 lesions, copied from {source}" in outcome.out
    assert "left out, not named like an image: 1 (AK/notes [b].txt)" in outcome.out
    assert "left out, labelled 'Vascular', which --map skips: 6" in outcome.out
    assert f"lesion data prepare data.root={root}" in outcome.err
    again = cli("data", "import", source, root)
    assert (again.code, again.out) == (74, "")
    other = cli("data", "import", source, root.with_name("b"), "--map", "Vascular=skip", "--json", "--link")
    assert json.loads(other.out)["linked"] is True
