"""The counts of a dataset, on a synthetic one and on rows that are odd."""

import json
from pathlib import Path

import pytest

from lesion.config.schema import DataConfig
from lesion.data.index import Row
from lesion.data.stats import count_rows, describe_dataset, read_splits, to_band
from lesion.errors import NotFoundError, OutputError
from lesion.taxonomy import Taxonomy
from tests.conftest import Cli

SEVEN = Taxonomy.of("diagnosis")


def make_row(image: str, lesion: str = "L", dx: str = "nv", path: Path = Path("a.jpg"), **more: str) -> Row:
    return Row(image, lesion, dx, path, **more)


def test_every_group_adds_up(ham_root: Path) -> None:
    report = describe_dataset(DataConfig(root=str(ham_root), processed=str(ham_root / "none")))
    assert set(report.groups) == {"diagnosis", "malignancy", "age", "sex", "site", "confirmation"}
    for name, group in report.groups.items():
        assert sum(counts["images"] for counts in group.values()) == report.images, name
        assert sum(counts["malignant"] for counts in group.values()) == report.malignant, name
    assert report.lesions == 70 == sum(report.images_per_lesion.values())
    assert report.images == sum(int(size) * count for size, count in report.images_per_lesion.items())
    assert report.malignant == sum(report.groups["diagnosis"][dx]["images"] for dx in ("akiec", "bcc", "mel"))
    assert report.written == []


def test_the_split_is_counted_when_there_is_one(ham_copy: Path) -> None:
    from lesion.data.split import open_dataset

    config = DataConfig(root=str(ham_copy), near_duplicates=False)
    members = open_dataset(config).members
    report = describe_dataset(config)
    assert {name: counts["images"] for name, counts in report.groups["split"].items()} == {
        name: len(rows) for name, rows in members.items()
    }
    assert list(report.groups["split"]) == ["train", "val", "test"]


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"image,part\na,train\n", b"image_id,split\na\n"])
def test_a_split_that_cannot_be_read_is_no_split(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "splits.csv").write_bytes(content)
    assert read_splits(tmp_path) == {}


def test_folds_become_splits(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("image_id,split\na,fold0\nb,fold1\nc,test\n")
    assert read_splits(tmp_path, fold=1) == {"a": "train", "b": "val", "c": "test"}


@pytest.mark.parametrize(
    ("age", "band"),
    [("45.0", "40–49"), ("0", "0–9"), ("9.9", "0–9"), ("80", "80+"), ("105", "80+"), ("", "unknown"),
     ("old", "unknown"), ("nan", "unknown"), ("inf", "unknown"), ("-1", "unknown")],
)  # fmt: skip
def test_ages_come_in_decades(age: str, band: str) -> None:
    assert to_band(age) == band


def test_what_is_missing_is_counted_and_odd_values_are_not_refused() -> None:
    rows = [
        make_row("a", dx="mel", age="70", sex="male", localization="[red]back", dx_type="histo"),
        make_row("b", dx="mystery", path=Path(), sex="unknown"),
        make_row("c", "M", dx="", age="8"),
    ]
    report = count_rows(rows, Path("x"), SEVEN, {"a": "train"})
    assert report.missing == {"dx": 1, "dx_type": 2, "age": 1, "sex": 2, "localization": 2, "image file": 1}
    assert report.groups["malignancy"] == {
        "malignant": {"images": 1, "lesions": 1, "malignant": 1},
        "unknown": {"images": 2, "lesions": 2, "malignant": 0},
    }
    assert list(report.groups["age"]) == ["0–9", "70–79", "unknown"]
    assert list(report.groups["split"]) == ["train", "none"]
    assert report.images_per_lesion == {"1": 1, "2": 1}


def test_what_counts_as_malignant_is_configured(ham_root: Path) -> None:
    config = DataConfig(root=str(ham_root), processed=str(ham_root / "none"), malignant=["mel"])
    report = describe_dataset(config)
    assert report.malignant == report.groups["diagnosis"]["mel"]["images"]


def test_no_dataset_and_no_place_to_draw(ham_root: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no data folder"):
        describe_dataset(DataConfig(root=str(tmp_path / "nowhere")))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write into the folder"):
        describe_dataset(DataConfig(root=str(ham_root)), tmp_path / "file")


def test_the_command_prints_a_table_and_draws(ham_copy: Path, tmp_path: Path, cli: Cli) -> None:
    table = ham_copy / "HAM10000_metadata.csv"
    first = table.read_text("utf-8").splitlines()[1].split(",")
    table.write_text(table.read_text("utf-8").replace(first[6], "[/red]:smile:"), "utf-8")
    outcome = cli("data", "stats", f"data.root={ham_copy}", "--out", tmp_path / "out")
    assert outcome.code == 0
    assert "[/red]:smile:" in outcome.out
    assert "lesions by number of images: 1: " in outcome.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["contact-sheet.png", "stats.html"]
    assert "stats.html" in outcome.err
    report = json.loads(cli("data", "stats", f"data.root={ham_copy}", "--json").out)
    assert (report["schema"], report["lesions"], report["written"]) == (1, 70, [])
