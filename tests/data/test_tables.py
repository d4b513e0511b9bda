"""Publishers' tables become HAM10000's metadata; a subset keeps lesions whole and diagnoses in proportion."""

import random
from collections import Counter
from pathlib import Path

import pytest

from lesion.data.tables import Record, choose_subset, drop_absent, format_metadata, read_metadata
from lesion.errors import ConfigError, DataError

HAM = "lesion_id,image_id,dx,dx_type,age,sex,localization,dataset\nHAM_1,ISIC_1,nv,histo,45.0,male,back,rosendahl\n"
LABELS = "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\nISIC_1,0.0,1.0,0.0,0.0,0.0,0.0,0.0\nISIC_2,1,0,0,0,0,0,0\n"
GROUPS = (
    "image,lesion_id,diagnosis_confirm_type\n"
    "ISIC_2,HAM_7,histopathology\nISIC_1,HAM_1,serial imaging showing no change\n"
)


def write(folder: Path, **tables: str) -> list[Path]:
    paths = [folder / f"{name}.csv" for name in tables]
    for path, text in zip(paths, tables.values(), strict=True):
        path.write_text(text, "utf-8")
    return paths


def test_a_table_of_our_layout_stays_as_it_is_to_the_byte(tmp_path: Path) -> None:
    paths = write(tmp_path, ham=HAM.replace("\n", "\r\n"))
    paths[0].write_bytes(HAM.replace("\n", "\r\n").encode())
    rows = read_metadata(paths)
    assert rows[0]["image_id"] == "ISIC_1"
    assert format_metadata(rows, paths).encode() == paths[0].read_bytes()


def test_labels_and_groups_are_joined(tmp_path: Path) -> None:
    rows = read_metadata(write(tmp_path, groups=GROUPS, labels=LABELS))
    assert [(row["lesion_id"], row["image_id"], row["dx"], row["dx_type"]) for row in rows] == [
        ("HAM_1", "ISIC_1", "nv", "follow_up"),
        ("HAM_7", "ISIC_2", "mel", "histo"),
    ]
    header = format_metadata(rows, []).splitlines()[0]
    assert header == "lesion_id,image_id,dx,dx_type,age,sex,localization,dataset"


def test_without_groups_each_image_is_a_lesion(tmp_path: Path) -> None:
    rows = read_metadata(write(tmp_path, labels=LABELS))
    assert [row["lesion_id"] for row in rows] == ["ISIC_1", "ISIC_2"]


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({}, "no diagnoses found"),
        ({"page": "<html>\n"}, "no diagnoses found"),
        ({"groups": GROUPS}, "no diagnoses found"),
        ({"labels": LABELS, "groups": GROUPS.replace("ISIC_2", "ISIC_9")}, "ISIC_2 has no lesion"),
        ({"labels": LABELS.replace("ISIC_2,1", "ISIC_2,0")}, "ISIC_2 has 0 diagnoses"),
        ({"labels": LABELS.replace("1,0,0", "1,1,0")}, "ISIC_2 has 2 diagnoses"),
        ({"ham": HAM.replace("ISIC_1", "../../evil")}, "no id"),
        ({"labels": LABELS.replace("ISIC_1", "/etc/x")}, "no id"),
        ({"ham": HAM.replace("ISIC_1", "")}, "no id"),
    ],
)
def test_tables_that_make_no_sense_are_refused(tables: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read_metadata(write(tmp_path, **tables))


def test_a_table_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot read"):
        read_metadata([tmp_path / "x.csv"])


@pytest.fixture(scope="module")
def rows() -> list[Record]:
    """As many lesions as HAM10000, with its shares."""
    rng = random.Random(0)
    shares = {"nv": 6705, "mel": 1113, "bkl": 1099, "bcc": 514, "akiec": 327, "vasc": 142, "df": 115}
    made: list[Record] = []
    for dx, images in shares.items():
        left, lesion = images, 0
        while left > 0:
            size, lesion = min(left, rng.choice([1, 1, 1, 2, 3])), lesion + 1
            for _ in range(size):
                made.append({"lesion_id": f"{dx}{lesion}", "image_id": f"I{len(made)}", "dx": dx})
            left -= size
    return made


@pytest.mark.parametrize("images", [21, 22, 50, 100, 1000, 10_000])
def test_a_subset_has_whole_lesions_in_proportion(images: int, rows: list[Record]) -> None:
    chosen = choose_subset(rows, images)
    assert len(chosen) == images
    whole = Counter(row["lesion_id"] for row in rows)
    assert all(whole[name] == count for name, count in Counter(row["lesion_id"] for row in chosen).items())
    lesions = Counter(dx for dx, _ in {(row["dx"], row["lesion_id"]) for row in chosen})
    assert len(lesions) == 7
    assert min(lesions.values()) >= 3
    assert [row["image_id"] for row in chosen] == sorted((row["image_id"] for row in chosen), key=lambda i: int(i[1:]))
    if images >= 1000:
        share = Counter(row["dx"] for row in chosen)["nv"] / images
        assert share == pytest.approx(0.67, abs=0.01)


def test_a_subset_does_not_depend_on_the_order_of_the_rows(rows: list[Record]) -> None:
    mixed = random.Random(1).sample(rows, len(rows))
    ids = {row["image_id"] for row in choose_subset(rows, 100)}
    assert {row["image_id"] for row in choose_subset(mixed, 100)} == ids


@pytest.mark.parametrize("images", [1, 20, 10_016])
def test_an_impossible_subset_says_what_is_possible(images: int, rows: list[Record]) -> None:
    with pytest.raises(ConfigError, match=f"a subset of {images} images is not possible"):
        choose_subset(rows, images)


def test_a_few_absent_images_are_left_out_and_many_refused() -> None:
    listed = [{"image_id": str(i)} for i in range(200)]
    assert len(drop_absent(listed, {str(i) for i in range(198)})) == 198
    with pytest.raises(DataError, match="3 of 200 listed images did not come"):
        drop_absent(listed, {str(i) for i in range(197)})
