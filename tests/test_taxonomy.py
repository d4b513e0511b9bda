"""Which outputs there are, in which order, and which of them count as malignant."""

import pytest

from lesion.errors import ConfigError, DataError
from lesion.taxonomy import DIAGNOSES, MALIGNANT_DIAGNOSES, Taxonomy

SEVEN = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")


def test_the_seven_diagnoses_keep_their_order() -> None:
    taxonomy = Taxonomy.of("diagnosis")
    assert taxonomy.labels == SEVEN == tuple(DIAGNOSES)
    assert taxonomy.knows_diagnoses


def test_the_two_classes_are_benign_then_malignant() -> None:
    taxonomy = Taxonomy.of("malignancy")
    assert taxonomy.labels == ("benign", "malignant")
    assert not taxonomy.knows_diagnoses


@pytest.mark.parametrize(
    ("classes", "malignant", "outputs"),
    [
        ("diagnosis", MALIGNANT_DIAGNOSES, (0, 1, 4)),
        ("malignancy", MALIGNANT_DIAGNOSES, (1,)),
        ("diagnosis", ("mel",), (4,)),
        ("malignancy", ("mel",), (1,)),
        ("diagnosis", ("vasc", "mel", "akiec"), (0, 4, 6)),
        ("diagnosis", SEVEN[1:], (1, 2, 3, 4, 5, 6)),
    ],
    ids=str,
)
def test_the_malignant_outputs_are_those_of_the_malignant_diagnoses(
    classes: str, malignant: tuple[str, ...], outputs: tuple[int, ...]
) -> None:
    assert Taxonomy.of(classes, malignant).malignant_outputs == outputs


@pytest.mark.parametrize("malignant", [MALIGNANT_DIAGNOSES, ("mel",), SEVEN[:6]], ids=str)
def test_both_class_sets_agree_about_every_diagnosis(malignant: tuple[str, ...]) -> None:
    seven, two = Taxonomy.of("diagnosis", malignant), Taxonomy.of("malignancy", malignant)
    for dx in DIAGNOSES:
        assert seven.is_malignant(dx) == two.is_malignant(dx) == (dx in malignant)
        assert (seven.target(dx) in seven.malignant_outputs) == (dx in malignant)
        assert (two.target(dx) in two.malignant_outputs) == (dx in malignant)


def test_a_diagnosis_raises_its_own_output() -> None:
    assert [Taxonomy.of("diagnosis").target(dx) for dx in SEVEN] == list(range(7))


def test_order_and_repetition_of_the_malignant_diagnoses_do_not_matter() -> None:
    assert Taxonomy.of("diagnosis", ["mel", "bcc", "mel", "akiec"]) == Taxonomy.of("diagnosis")


def test_an_unknown_malignant_diagnosis_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        Taxonomy.of("diagnosis", ["mel", "melanoma", "zoster"])
    assert caught.value.message == "data.malignant: unknown diagnosis melanoma, zoster"
    assert caught.value.hint == "any of: akiec, bcc, bkl, df, mel, nv, vasc"
    assert (caught.value.exit_code, caught.value.http_status) == (2, 400)


@pytest.mark.parametrize("classes", ["diagnosis", "malignancy"])
@pytest.mark.parametrize("malignant", [(), SEVEN], ids=["none", "all"])
def test_none_or_all_malignant_is_refused(classes: str, malignant: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        Taxonomy.of(classes, malignant)
    assert caught.value.message == "data.malignant: needs at least one malignant and one benign diagnosis"


@pytest.mark.parametrize("classes", ["diagnosis", "malignancy"])
@pytest.mark.parametrize("dx", ["melanoma", "MEL", "", "malignant", "benign"])
def test_an_unknown_diagnosis_has_no_target(classes: str, dx: str) -> None:
    with pytest.raises(DataError) as caught:
        Taxonomy.of(classes).target(dx)
    assert caught.value.message == f"unknown diagnosis {dx!r}"
    assert caught.value.hint == "one of: akiec, bcc, bkl, df, mel, nv, vasc"
    assert caught.value.exit_code == 65
