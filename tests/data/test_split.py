"""The split: whole lesions, even shares, the same on every machine, and never drawn anew in silence."""

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lesion.config.schema import DataConfig
from lesion.data.audit import audit
from lesion.data.index import Row, scan
from lesion.data.partition import SPLITS, draw_split, subsample
from lesion.data.quarantine import add_to_quarantine
from lesion.data.split import Dataset, open_dataset, processed_folder, read_parts
from lesion.errors import DataError, OutputError
from lesion.files import sha256
from lesion.preprocess import PreprocessSpec
from lesion.taxonomy import DIAGNOSES

REAL = Path(os.environ.get("LESION_HAM10000") or Path(__file__).parents[2].parent / "shared" / "ham10000")
derandomized = settings(derandomize=True, deadline=None, max_examples=60)


def table(sizes: dict[str, list[int]]) -> list[Row]:
    """Rows of lesions with the given numbers of images, per diagnosis."""
    return [
        Row(f"{dx}_{lesion}_{image}", f"{dx}_{lesion}", dx, Path(f"{dx}_{lesion}_{image}.jpg"))
        for dx, counts in sizes.items()
        for lesion, count in enumerate(counts)
        for image in range(count)
    ]


tables = st.dictionaries(
    st.sampled_from(list(DIAGNOSES)), st.lists(st.integers(1, 6), min_size=3, max_size=40), min_size=1
).map(table)
seeds = st.integers(0, 5)
shares = st.sampled_from([(0.15, 0.15), (0.1, 0.2), (0.5, 0.49), (0.01, 0.01), (0.3, 0.05)])
FIXED = table({"nv": [1 + i % 3 for i in range(20)], "mel": [1 + i % 2 for i in range(8)], "df": [2, 1, 1]})
BIG = table({dx: [1 + (i * 7 + k) % 5 % 3 for i in range(400 + 1600 * (dx == "nv"))] for k, dx in enumerate(DIAGNOSES)})


def config(root: Path, processed: Path | None = None, **changes: object) -> DataConfig:
    return replace(DataConfig(root=str(root), processed=str(processed) if processed else None), **changes)


def parts(rows: list[Row], assigned: dict[str, str]) -> dict[str, list[Row]]:
    return {name: [row for row in rows if assigned[row.image_id] == name] for name in SPLITS}


@given(tables, shares, seeds)
@derandomized
def test_every_image_is_assigned_and_no_lesion_lies_in_two_splits(
    rows: list[Row], share: tuple[float, float], seed: int
) -> None:
    assigned = draw_split(rows, *share, seed)
    assert assigned.keys() == {row.image_id for row in rows}
    homes: dict[str, set[str]] = {}
    for row in rows:
        homes.setdefault(row.lesion_id, set()).add(assigned[row.image_id])
    assert all(len(home) == 1 for home in homes.values())
    assert set(assigned.values()) == set(SPLITS)


@given(tables, shares, seeds)
@derandomized
def test_each_split_has_a_lesion_of_each_diagnosis(rows: list[Row], share: tuple[float, float], seed: int) -> None:
    assigned = draw_split(rows, *share, seed)
    for part in parts(rows, assigned).values():
        assert {row.dx for row in part} == {row.dx for row in rows}


@given(tables, shares, seeds)
@derandomized
def test_no_split_ends_more_than_a_lesion_above_its_share(
    rows: list[Row], share: tuple[float, float], seed: int
) -> None:
    assigned = draw_split(rows, *share, seed)
    goals = dict(zip(SPLITS, (1 - sum(share), *share), strict=True))
    for dx in {row.dx for row in rows}:
        members = [row for row in rows if row.dx == dx]
        largest = max(Counter(row.lesion_id for row in members).values())
        for name, part in parts(members, assigned).items():
            assert len(part) <= goals[name] * len(members) + largest + 1e-9


@given(tables, seeds, st.randoms(use_true_random=False))
@derandomized
def test_the_order_of_the_rows_does_not_matter(rows: list[Row], seed: int, shuffler: random.Random) -> None:
    shuffled = rows.copy()
    shuffler.shuffle(shuffled)
    assert draw_split(shuffled, 0.15, 0.15, seed) == draw_split(rows, 0.15, 0.15, seed)


@given(tables, seeds)
@derandomized
def test_a_further_diagnosis_leaves_the_others_where_they_were(rows: list[Row], seed: int) -> None:
    fewer = [row for row in rows if row.dx == rows[0].dx]
    assert draw_split(fewer, 0.15, 0.15, seed).items() <= draw_split(rows, 0.15, 0.15, seed).items()


@pytest.mark.parametrize("seed", range(5))
def test_class_shares_of_a_big_table_differ_by_less_than_a_point(seed: int) -> None:
    assigned = draw_split(BIG, 0.15, 0.15, seed)
    assert_even_shares(parts(BIG, assigned))


def assert_even_shares(members: dict[str, list[Row]]) -> None:
    rows = [row for part in members.values() for row in part]
    whole = Counter(row.dx for row in rows)
    for name, part in members.items():
        goal = {"train": 0.7, "val": 0.15, "test": 0.15}[name]
        inside = Counter(row.dx for row in part)
        assert abs(len(part) / len(rows) - goal) < 0.01
        for dx in whole:
            assert abs(inside[dx] / len(part) - whole[dx] / len(rows)) < 0.01, f"{dx} in {name}"
            assert abs(inside[dx] / whole[dx] - goal) < 0.01, f"{name} of {dx}"


def test_the_split_is_the_same_on_every_machine_and_python() -> None:
    assigned = draw_split(FIXED, 0.15, 0.15, 0)
    digest = sha256("\n".join(sorted(f"{image}:{name}" for image, name in assigned.items())).encode())
    assert Counter(assigned.values()) == {"train": 36, "val": 9, "test": 10}
    assert digest[:16] == "02977c5307ae3f68"


def test_another_seed_gives_another_split() -> None:
    drawn = [draw_split(FIXED, 0.15, 0.15, seed) for seed in range(4)]
    assert all(one != two for i, one in enumerate(drawn) for two in drawn[:i])


@pytest.mark.parametrize("count", [1, 2])
def test_a_diagnosis_with_fewer_lesions_than_splits_is_refused(count: int) -> None:
    with pytest.raises(DataError) as caught:
        draw_split(table({"nv": [1, 1, 1], "df": [4] * count}), 0.15, 0.15, 0)
    assert caught.value.message.startswith(f"{count} lesion{'s' * (count > 1)} with diagnosis df, at least 3 expected")
    assert caught.value.exit_code == 65
    assert caught.value.hint


# --- the written split ------------------------------------------------------------------------------------------------


def test_the_first_call_writes_the_split_and_the_second_only_reads_it(ham_root: Path, tmp_path: Path) -> None:
    first = open_dataset(config(ham_root, tmp_path))
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert written.keys() == {"splits.csv", "splits.json"}
    assert open_dataset(config(ham_root, tmp_path)) == first
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


def test_the_written_split_is_a_table_that_others_can_read(ham_root: Path, tmp_path: Path) -> None:
    dataset = open_dataset(config(ham_root, tmp_path))
    lines = (tmp_path / "splits.csv").read_text("utf-8").splitlines()
    assert lines[0] == "image_id,lesion_id,dx,split,group"
    wanted = {f"{row.image_id},{row.lesion_id},{row.dx},{name}" for name in SPLITS for row in dataset.members[name]}
    assert {line.rpartition(",")[0] for line in lines[1:]} == wanted
    facts = json.loads((tmp_path / "splits.json").read_text("utf-8"))
    assert (facts["seed"], facts["val"], facts["test"], facts["fingerprint"]) == (0, 0.15, 0.15, dataset.fingerprint)


def test_members_keep_the_order_of_the_table(ham_root: Path, tmp_path: Path) -> None:
    for part in open_dataset(config(ham_root, tmp_path)).members.values():
        assert [row.image_id for row in part] == sorted(row.image_id for row in part)


def test_the_written_split_is_trusted_rather_than_drawn_again(
    ham_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_dataset(config(ham_root, tmp_path))

    def draw(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr("lesion.data.split.draw_split", draw)
    assert open_dataset(config(ham_root, tmp_path)).members == first.members


def refuse(wanted: DataConfig, folder: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        open_dataset(wanted)
    assert str(folder) in caught.value.message
    assert "data.processed" in caught.value.hint
    assert str(folder / "splits.json") in caught.value.hint
    assert caught.value.exit_code == 65
    return caught.value


@pytest.mark.parametrize(
    ("old", "new"),
    [(",train,", ",test,"), (",train,", ",training,"), (",val,", ",,"), ("SYN_0000001,", "SYN_9999999,")],
    ids=["moved", "unknown split", "no split", "other image"],
)
def test_an_edited_split_is_refused(old: str, new: str, ham_root: Path, tmp_path: Path) -> None:
    open_dataset(config(ham_root, tmp_path))
    path = tmp_path / "splits.csv"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")
    assert "was changed after it was drawn" in refuse(config(ham_root, tmp_path), tmp_path).message


def test_a_shortened_split_is_refused(ham_root: Path, tmp_path: Path) -> None:
    open_dataset(config(ham_root, tmp_path))
    path = tmp_path / "splits.csv"
    path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")
    assert "was changed after it was drawn" in refuse(config(ham_root, tmp_path), tmp_path).message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"split_seed": 1}, "was drawn for seed 0, not 1"),
        ({"val": 0.2}, "was drawn for val 0.15, not 0.2"),
        ({"test": 0.1}, "was drawn for test 0.15, not 0.1"),
    ],
    ids=["seed", "val", "test"],
)
def test_other_settings_than_the_split_was_drawn_for_are_refused(
    changes: dict[str, object], says: str, ham_root: Path, tmp_path: Path
) -> None:
    open_dataset(config(ham_root, tmp_path))
    assert refuse(config(ham_root, tmp_path, **changes), tmp_path).message == f"the split in {tmp_path} {says}"


def test_other_metadata_than_the_split_was_drawn_for_are_refused(ham_copy: Path) -> None:
    open_dataset(config(ham_copy))
    path = ham_copy / "HAM10000_metadata.csv"
    path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")
    assert "was drawn for metadata " in refuse(config(ham_copy), ham_copy / "processed").message


def test_settings_that_the_split_does_not_depend_on_may_change(ham_root: Path, tmp_path: Path) -> None:
    first = open_dataset(config(ham_root, tmp_path))
    again = open_dataset(config(ham_root, tmp_path, subsample=0.1, malignant=["mel"], workers=0))
    assert again.fingerprint == first.fingerprint


def test_columns_that_the_split_does_not_depend_on_may_change(ham_copy: Path) -> None:
    first = open_dataset(config(ham_copy))
    path = ham_copy / "HAM10000_metadata.csv"
    path.write_text(path.read_text("utf-8").replace("female", "unknown"), "utf-8")
    assert open_dataset(config(ham_copy)).fingerprint == first.fingerprint


def test_a_half_written_split_is_drawn_again(ham_copy: Path) -> None:
    first = open_dataset(config(ham_copy))
    (ham_copy / "processed" / "splits.json").unlink()
    (ham_copy / "processed" / "splits.csv").write_text("image_id,lesion_id,dx,split\nSYN_", "utf-8")
    assert open_dataset(config(ham_copy)) == first


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"], ids=["empty", "cut off", "binary"])
def test_an_unreadable_split_is_refused(content: bytes, ham_root: Path, tmp_path: Path) -> None:
    open_dataset(config(ham_root, tmp_path))
    (tmp_path / "splits.json").write_bytes(content)
    assert "is not readable" in refuse(config(ham_root, tmp_path), tmp_path).message


@pytest.mark.parametrize("content", [b"[]", b"null", b"{}", b'{"fingerprint": null}'])
def test_a_split_without_its_facts_is_refused(content: bytes, ham_root: Path, tmp_path: Path) -> None:
    open_dataset(config(ham_root, tmp_path))
    (tmp_path / "splits.json").write_bytes(content)
    assert "was changed after it was drawn" in refuse(config(ham_root, tmp_path), tmp_path).message


@pytest.mark.parametrize(
    "content", [None, b"", b"image,split\nSYN_0000001,train\n", b"image_id,lesion_id,dx,split\n\xff"],
    ids=["absent", "empty", "other columns", "binary"],
)  # fmt: skip
def test_a_split_whose_table_is_damaged_is_refused(content: bytes | None, ham_root: Path, tmp_path: Path) -> None:
    open_dataset(config(ham_root, tmp_path))
    (tmp_path / "splits.csv").unlink()
    if content is not None:
        (tmp_path / "splits.csv").write_bytes(content)
    refuse(config(ham_root, tmp_path), tmp_path)


@pytest.fixture
def read_only(ham_copy: Path) -> Iterator[Path]:
    ham_copy.chmod(0o555)
    yield ham_copy
    ham_copy.chmod(0o755)


def test_a_writable_dataset_keeps_its_split_inside(ham_copy: Path) -> None:
    assert open_dataset(config(ham_copy)).processed == ham_copy / "processed"
    assert (ham_copy / "processed" / "splits.json").is_file()


def test_a_read_only_dataset_has_its_split_in_the_working_folder(
    read_only: Path, ham_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    dataset = open_dataset(config(read_only))
    assert dataset.processed == Path("processed/ham10000")
    assert (tmp_path / "work" / "processed" / "ham10000" / "splits.csv").is_file()
    assert not (read_only / "processed").exists()
    named = open_dataset(config(read_only, tmp_path / "named"))
    assert (tmp_path / "named" / "splits.csv").is_file()
    assert named.fingerprint == dataset.fingerprint == open_dataset(config(ham_root, tmp_path / "x")).fingerprint


def test_a_read_only_dataset_that_brings_its_split_is_read_there(ham_copy: Path) -> None:
    first = open_dataset(config(ham_copy))
    ham_copy.chmod(0o555)
    try:
        assert open_dataset(config(ham_copy)) == first
    finally:
        ham_copy.chmod(0o755)


@pytest.fixture
def prepared(ham_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A dataset with a split and a quarantine, read-only by now, and an empty working folder."""
    image = open_dataset(config(ham_copy)).members["train"][0].image_id
    add_to_quarantine(ham_copy / "processed", {image: "blurred"})
    folders = (ham_copy / "processed", ham_copy)
    for folder in folders:
        folder.chmod(0o555)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield ham_copy
    for folder in folders:
        folder.chmod(0o755)


def test_split_and_quarantine_are_read_in_a_read_only_dataset_and_pixels_are_kept_elsewhere(
    prepared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    dataset = open_dataset(config(prepared))
    assert dataset.processed == prepared / "processed"
    assert sum(map(len, dataset.members.values())) == len(scan(prepared)[0]) - 1
    spec, cache = PreprocessSpec(32, "bilinear"), Path("processed") / prepared.name / "cache"
    pixels = dataset.open_cache(spec, 1).pixels
    assert f"{prepared / 'processed' / 'cache'} is read-only: decoded images are kept in {cache}" in caplog.text
    assert sorted(path.name for path in cache.iterdir()) == ["32-bilinear.json", "32-bilinear.npy"]
    assert sorted(path.name for path in (prepared / "processed").iterdir()) == [
        "quarantine.csv", "splits.csv", "splits.json",
    ]  # fmt: skip
    assert np.array_equal(dataset.open_cache(spec, 1).pixels, pixels)


def test_pixels_that_a_read_only_dataset_brings_are_used(prepared: Path) -> None:
    (prepared / "processed").chmod(0o755)
    spec = PreprocessSpec(32, "bilinear")
    before = open_dataset(config(prepared)).open_cache(spec, 1).pixels
    for folder in (prepared / "processed" / "cache", prepared / "processed"):
        folder.chmod(0o555)
    assert np.array_equal(open_dataset(config(prepared)).open_cache(spec, 1).pixels, before)
    assert list(Path().iterdir()) == []
    (prepared / "processed" / "cache").chmod(0o755)


def test_a_quarantine_in_a_read_only_dataset_without_a_split_counts_too(
    read_only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = scan(read_only)[0][0].image_id
    read_only.chmod(0o755)
    add_to_quarantine(read_only / "processed", {image: "blurred"})
    read_only.chmod(0o555)
    dataset = open_dataset(config(read_only))
    assert dataset.processed == Path("processed") / read_only.name
    assert image not in {row.image_id for rows in dataset.members.values() for row in rows}


def test_a_working_folder_that_takes_no_pixels_names_the_key(prepared: Path, tmp_path: Path) -> None:
    Path("processed").touch()
    with pytest.raises(OutputError, match="cannot write into the folder processed") as caught:
        open_dataset(config(prepared)).open_cache(PreprocessSpec(32, "bilinear"), 1)
    assert "data.processed=FOLDER" in caught.value.hint
    dataset = open_dataset(config(prepared, tmp_path / "mine"))  # as the hint says
    assert len(dataset.open_cache(PreprocessSpec(32, "bilinear"), 1).entries) == len(scan(prepared)[0])


def test_flat_pictures_of_other_lesions_are_kept_in_one_split(ham_copy: Path) -> None:
    rows = scan(ham_copy)[0]
    chosen = [next(row for row in rows if row.dx == dx) for dx in ("nv", "mel", "bkl")]
    for row in chosen:
        Image.new("RGB", (64, 48), "grey").save(row.path)
    open_dataset(config(ham_copy, near_duplicates=True))
    parts = read_parts(ham_copy / "processed")
    assert len({parts[row.image_id] for row in chosen}) == 1
    report = audit(ham_copy, ham_copy / "processed")
    assert "duplicate-in-two-splits" not in report.counts


def test_the_working_folder_names_the_dataset_also_when_it_is_the_current_one(
    read_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(read_only)
    assert processed_folder(config(Path())) == Path("processed/ham10000")


def test_a_folder_for_the_split_that_cannot_be_made_is_refused(ham_root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError) as caught:
        open_dataset(config(ham_root, tmp_path / "file" / "below"))
    assert str(tmp_path / "file" / "below") in caught.value.message
    assert caught.value.exit_code == 74


def test_the_report_counts_images_lesions_and_diagnoses(ham_root: Path, tmp_path: Path) -> None:
    dataset = open_dataset(config(ham_root, tmp_path))
    report = dataset.report()
    rows = [row for part in dataset.members.values() for row in part]
    assert (report.images, report.lesions, report.fingerprint) == (len(rows), 70, dataset.fingerprint)
    assert report.splits.keys() == set(SPLITS)
    for name, count in report.splits.items():
        assert count["images"] == sum(count[dx] for dx in DIAGNOSES) == len(dataset.members[name])
        assert count["lesions"] == len({row.lesion_id for row in dataset.members[name]})


def test_only_a_wholly_synthetic_dataset_is_called_synthetic(ham_root: Path, tmp_path: Path) -> None:
    dataset = open_dataset(config(ham_root, tmp_path))
    assert dataset.name == "synthetic"
    mixed = {**dataset.members, "val": [replace(row, dataset="rosendahl") for row in dataset.members["val"]]}
    assert Dataset(dataset.root, dataset.processed, mixed, dataset.fingerprint).name == "HAM10000 layout"


@pytest.mark.parametrize("trained", ["0123456789ab", None, ""])
def test_a_model_of_another_split_is_refused(trained: object, ham_root: Path, tmp_path: Path) -> None:
    dataset = open_dataset(config(ham_root, tmp_path))
    dataset.require_split(dataset.fingerprint, Path("model.onnx"))
    with pytest.raises(DataError) as caught:
        dataset.require_split(trained, Path("model.onnx"))
    assert f"model.onnx was trained on split {trained}, but the data have" in caught.value.message
    assert dataset.fingerprint in caught.value.message
    assert "data.processed=" in caught.value.hint
    assert caught.value.exit_code == 65


# --- subsample --------------------------------------------------------------------------------------------------------


@given(tables, st.floats(0.01, 1), st.floats(0.01, 1), seeds)
@derandomized
def test_a_smaller_subsample_is_part_of_a_larger_one(rows: list[Row], one: float, two: float, seed: int) -> None:
    small, large = (subsample(rows, share, seed) for share in sorted((one, two)))
    assert {row.image_id for row in small} <= {row.image_id for row in large}


@given(tables, st.floats(0.001, 1), seeds)
@derandomized
def test_a_subsample_holds_whole_lesions_of_every_diagnosis_in_order(rows: list[Row], share: float, seed: int) -> None:
    kept = subsample(rows, share, seed)
    lesions = {row.lesion_id for row in kept}
    assert kept == [row for row in rows if row.lesion_id in lesions]
    for dx in {row.dx for row in rows}:
        total, some = (len({row.lesion_id for row in part if row.dx == dx}) for part in (rows, kept))
        assert some >= 1
        assert abs(some - share * total) <= 1


def test_the_whole_is_kept_when_asked_for() -> None:
    assert subsample(BIG, 1.0, 3) == BIG


def test_a_subsample_is_the_same_whenever_and_in_whatever_order_it_is_drawn() -> None:
    kept = {row.image_id for row in subsample(BIG, 0.1, 0)}
    assert {row.image_id for row in subsample(BIG[::-1], 0.1, 0)} == kept
    assert {row.image_id for row in subsample(BIG, 0.1, 1)} != kept


# --- the real dataset -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    if not (REAL / "HAM10000_metadata.csv").is_file():
        pytest.skip(f"no HAM10000 in {REAL}; name its folder in LESION_HAM10000")
    return open_dataset(config(REAL, tmp_path_factory.mktemp("real") / "processed"))


@pytest.mark.real
def test_ham10000_is_complete(real: Dataset) -> None:
    assert (real.report().images, real.report().lesions, real.name) == (10_015, 7_470, "HAM10000")


@pytest.mark.real
def test_ham10000_shares_no_lesion_between_splits(real: Dataset) -> None:
    lesions = [{row.lesion_id for row in real.members[name]} for name in SPLITS]
    assert sum(map(len, lesions)) == len(set.union(*lesions)) == 7_470


@pytest.mark.real
def test_ham10000_is_split_evenly(real: Dataset) -> None:
    assert_even_shares(real.members)


@pytest.mark.real
def test_ham10000_without_its_near_duplicates_is_split_the_same_everywhere(real: Dataset, tmp_path: Path) -> None:
    plain = replace(config(REAL, tmp_path / "processed"), near_duplicates=False)
    assert open_dataset(plain).fingerprint == "201deedb5514"


@pytest.mark.real
def test_ham10000_keeps_known_near_duplicates_of_different_lesions_together(real: Dataset) -> None:
    # Found by Abhishek et al. in their study of DermaMNIST.
    known = """33481-33421 33556-32634 29152-33173 29036-27027 27820-28209 27689-32647 30906-24879 33391-34186
        25226-30074 26087-25664 24736-29748 24770-27811 27162-29061 24602-32283 29625-24629 30000-31392 24437-31299
        33374-33417"""
    where = {row.image_id: name for name, members in real.members.items() for row in members}
    pairs = [[where[f"ISIC_00{number}"] for number in pair.split("-")] for pair in known.split()]
    assert len(pairs) == 18
    assert sum(first == second for first, second in pairs) >= 16
