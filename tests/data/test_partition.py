import json
from dataclasses import replace
from pathlib import Path

import pytest

from lesion.config.load import load_config
from lesion.config.schema import DataConfig
from lesion.data import split as module
from lesion.data.duplicates import Pair
from lesion.data.index import Row
from lesion.data.partition import draw_split, group_lesions, name_parts, to_split
from lesion.data.split import open_dataset
from lesion.errors import ConfigError, DataError


def make_rows(lesions: int, dx: str = "nv") -> list[Row]:
    return [Row(f"I{i}_{k}", f"L{i:03d}", dx, Path()) for i in range(lesions) for k in range(1 + i % 3)]


def test_paired_lesions_form_one_group_however_they_are_chained() -> None:
    rows = [Row(f"I{i}", f"L{i}", "nv", Path()) for i in range(6)]
    groups = group_lesions(rows, [(4, 3), (2, 4), (0, 5)])
    assert groups == {"L0": "L0", "L1": "L1", "L2": "L2", "L3": "L2", "L4": "L2", "L5": "L0"}


def test_groups_do_not_depend_on_the_order_of_the_pairs() -> None:
    rows = [Row(f"I{i}", f"L{i}", "nv", Path()) for i in range(9)]
    pairs = [(0, 1), (3, 4), (1, 4), (7, 8), (2, 7)]
    assert group_lesions(rows, pairs) == group_lesions(rows, [(b, a) for a, b in reversed(pairs)])


def test_a_group_is_never_divided() -> None:
    rows = make_rows(60)
    groups = group_lesions(rows, [(i, i + 7) for i in range(0, 100, 11)])
    parts = draw_split(rows, 0.15, 0.15, 0, groups=groups)
    for group in set(groups.values()):
        assert len({parts[row.image_id] for row in rows if groups[row.lesion_id] == group}) == 1


def test_a_group_of_two_diagnoses_counts_under_the_rarer_one() -> None:
    rows = [*make_rows(30), *[Row(f"M{i}", f"M{i}", "mel", Path()) for i in range(4)]]
    groups = group_lesions(rows, [(0, len(rows) - 1)])
    parts = draw_split(rows, 0.15, 0.15, 0, groups=groups)
    assert parts[rows[0].image_id] == parts[rows[-1].image_id]
    assert {parts[f"M{i}"] for i in range(4)} == {"train", "val", "test"}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("folds", [0, 3])
def test_training_gets_the_lesion_that_most_images_of_a_rare_diagnosis_show(seed: int, folds: int) -> None:
    sizes = {"A": 1, "B": 1, "C": 40} if not folds else {"A": 1, "B": 1, "C": 40, "D": 2, "E": 1}
    rows = [Row(f"{lesion}{i}", lesion, "df", Path()) for lesion, count in sizes.items() for i in range(count)]
    parts = draw_split(rows, 0.15, 0.15, seed, folds=folds, calibration=0.1 if folds else 0.0)
    assert {parts[f"C{i}"] for i in range(40)} <= {"train", "fold0", "fold1", "fold2"}
    assert set(parts.values()) == set(name_parts(0.15, 0.15, folds, 0.1 if folds else 0.0))


def test_other_splits_are_drawn_as_ever() -> None:
    """The largest lesion moves only when a held-out part would have more images of a diagnosis than training."""
    parts = draw_split(make_rows(40), 0.15, 0.15, 0)
    assert {image.split("_")[0] for image, part in parts.items() if part == "test"} == {"I11", "I2", "I25", "I32"}


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_share_evenly_what_is_not_test(folds: int) -> None:
    rows = make_rows(300)
    parts = draw_split(rows, 0.15, 0.2, 0, folds=folds)
    assert set(parts.values()) == set(name_parts(0.15, 0.2, folds)) == {"test", *(f"fold{i}" for i in range(folds))}
    for name, share in name_parts(0.15, 0.2, folds).items():
        assert sum(part == name for part in parts.values()) == pytest.approx(share * len(rows), abs=4)


def test_each_fold_validates_in_its_turn() -> None:
    assert [to_split(part, 1) for part in ("test", "fold0", "fold1", "fold2")] == ["test", "train", "val", "train"]
    assert [to_split(part, 0) for part in ("train", "val", "test")] == ["train", "val", "test"]


def test_what_is_kept_apart_is_in_no_fold_and_validates_when_all_of_them_train() -> None:
    rows = make_rows(300)
    shares = name_parts(0.15, 0.2, 3, 0.1)
    assert shares == {"test": 0.2, "calibration": 0.1} | dict.fromkeys(
        ("fold0", "fold1", "fold2"), pytest.approx(0.7 / 3)
    )
    parts = draw_split(rows, 0.15, 0.2, 0, folds=3, calibration=0.1)
    for name, share in shares.items():
        assert sum(part == name for part in parts.values()) == pytest.approx(share * len(rows), abs=4)
    splits = [[to_split(part, fold) for part in ("test", "calibration", "fold0", "fold1")] for fold in (0, None)]
    assert splits == [["test", "calibration", "val", "train"], ["test", "val", "train", "train"]]


def test_a_dataset_of_folds_leaves_out_what_is_kept_apart(ham_root: Path, tmp_path: Path) -> None:
    config = DataConfig(root=str(ham_root), processed=str(tmp_path), folds=2, calibration=0.2)
    zero, one, every = (open_dataset(replace(config, val_fold=fold)) for fold in (0, 1, None))
    apart = {row.lesion_id for row in every.members["val"]}
    assert apart
    for fold in (zero, one):
        assert not apart & {row.lesion_id for rows in fold.members.values() for row in rows}
        assert fold.members["test"] == every.members["test"]
    assert len({each.fingerprint for each in (zero, one, every)}) == 3
    with pytest.raises(DataError, match=r"was drawn for calibration 0\.2, not 0\.0"):
        open_dataset(replace(config, calibration=0.0))


def test_a_split_from_before_anything_was_kept_apart_is_still_read(ham_copy: Path) -> None:
    config = DataConfig(root=str(ham_copy))
    before = open_dataset(config)
    path = before.processed / "splits.json"
    facts = json.loads(path.read_text())
    del facts["calibration"]
    path.write_text(json.dumps(facts))
    assert open_dataset(config) == before


def test_folds_share_one_test_and_differ_in_their_fingerprint(ham_root: Path, tmp_path: Path) -> None:
    datasets = [
        open_dataset(DataConfig(root=str(ham_root), processed=str(tmp_path), folds=3, val_fold=fold))
        for fold in range(3)
    ]
    tests = [{row.image_id for row in each.members["test"]} for each in datasets]
    assert tests[0] == tests[1] == tests[2]
    validated = [row.image_id for each in datasets for row in each.members["val"]]
    assert len(validated) == len(set(validated)) == sum(map(len, datasets[0].members.values())) - len(tests[0])
    assert len({each.fingerprint for each in datasets}) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.folds=1"], "at least 2 expected"),
        (["data.folds=3", "data.val_fold=3"], "less than data.folds (3) expected"),
        (["data.folds=3", "data.val_fold=null"], "a share as data.calibration expected"),
        (["data.folds=3", "data.calibration=0.5", "data.test=0.5"], "leave nothing for the folds"),
    ],
    ids=["one fold", "a fold too many", "nothing to validate on", "nothing left"],
)
def test_impossible_folds_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=words)
    assert said in caught.value.message


def test_near_duplicates_of_different_lesions_share_a_split(
    ham_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = open_dataset(DataConfig(root=str(ham_root), processed=str(tmp_path / "plain"), near_duplicates=False))
    train, test = plain.members["train"][0], plain.members["test"][0]
    rows = module.scan(ham_root)[0]
    index = {row.image_id: i for i, row in enumerate(rows)}
    pair = Pair(index[train.image_id], index[test.image_id], 0.99)
    monkeypatch.setattr(module, "find_pairs", lambda thumbs, groups: [pair])
    glued = open_dataset(DataConfig(root=str(ham_root), processed=str(tmp_path / "glued")))
    where = {row.lesion_id: name for name, members in glued.members.items() for row in members}
    assert where[train.lesion_id] == where[test.lesion_id]


def test_quarantine_filters_a_split_and_never_moves_the_rest(ham_copy: Path) -> None:
    from lesion.data.quarantine import add_to_quarantine, restore

    config = DataConfig(root=str(ham_copy))
    before = open_dataset(config)
    victim = before.members["train"][0]
    add_to_quarantine(before.processed, {victim.image_id: "blurred"})
    after = open_dataset(config)
    assert after.members["train"] == before.members["train"][1:]
    assert (after.members["val"], after.members["test"]) == (before.members["val"], before.members["test"])
    assert after.fingerprint == before.fingerprint
    restore(before.processed, [victim.image_id])
    assert open_dataset(config).members == before.members
