"""The table of synonyms: what it knows, what it refuses to guess, and what the user adds."""

import pytest

from lesion.data.labels import KNOWN, SYNONYMS, find_diagnosis, map_labels, read_map, to_key
from lesion.errors import ConfigError, DataError
from lesion.taxonomy import DIAGNOSES


@pytest.mark.parametrize(
    ("label", "dx"),
    [
        ("Melanoma", "mel"), ("MEL", "mel"), ("malignant  melanomas", "mel"), ("melanoma_in_situ", "mel"),
        ("Nævus", "nv"), ("naevi", "nv"), ("Melanocytic Nevi", "nv"), ("NV", "nv"), ("blue naevus", "nv"),
        ("Basal-Cell Carcinoma", "bcc"), ("Actinic keratoses", "akiec"), ("AK", "akiec"), ("Bowen’s disease", "akiec"),
        ("SCC in situ", "akiec"), ("Seborrhoeic Keratosis", "bkl"), ("solar lentigo", "bkl"), ("Lentigo", "bkl"),
        ("lichen planus-like keratosis", "bkl"), ("Dermatofibromas", "df"), ("vascular lesions", "vasc"),
        ("haemangioma", "vasc"), ("cherry angioma", "vasc"), ("Nävus", "nv"), ("Aktinische Keratose", "akiec"),
        ("Mélanome", "mel"), ("Carcinoma basocelular", "bcc"), ("Cheratosi seborroica", "bkl"),
        *((dx, dx) for dx in DIAGNOSES),
    ],
)  # fmt: skip
def test_a_label_is_known_however_it_is_written(label: str, dx: str) -> None:
    assert find_diagnosis(label) == dx


@pytest.mark.parametrize("label", ["SCC", "squamous cell carcinoma", "unknown", "benign", "malignant", "", "nvv", "s"])
def test_what_is_not_one_of_the_seven_is_not_guessed(label: str) -> None:
    assert find_diagnosis(label) is None


def test_no_synonym_stands_for_two_diagnoses() -> None:
    keys = [to_key(name) for dx, names in SYNONYMS.items() for name in {to_key(word) for word in (dx, *names)}]
    assert len(keys) == len(set(keys))
    assert set(KNOWN.values()) == set(DIAGNOSES)


def test_all_unknown_labels_are_told_at_once_with_counts_and_what_is_nearest() -> None:
    with pytest.raises(DataError) as caught:
        map_labels(["melanomia"] * 3 + ["SCC"] * 5 + ["mel", "zzz"], {})
    assert caught.value.message == (
        "3 unknown labels: 'SCC' (5 images, invasive: HAM10000 has only its form in situ, as akiec); "
        "'melanomia' (3 images, nearest is 'melanoma': mel); 'zzz' (1 image)"
    )
    assert caught.value.hint == (
        "add --map SCC=DIAGNOSIS --map melanomia=DIAGNOSIS --map zzz=DIAGNOSIS with a diagnosis of each: "
        "akiec, bcc, bkl, df, mel, nv, vasc, or skip to leave its images out"
    )


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("Squamous cell carcinoma, NOS", "invasive"), ("Squamous cell carcinoma, Invasive", "invasive"),
        ("Plattenepithelkarzinom", "invasive"), ("Basal cell carcinoma, NOS", "nearest is 'basal cell carcinoma': bcc"),
        ("squamos cell carcinoma in situ", "nearest is 'squamous cell carcinoma in situ': akiec"),
        ("seborheic keratosis", "nearest is 'seborrheic keratosis': bkl"),
        *((other, "(1 image)") for other in (
            "Merkel cell carcinoma", "dermatofibrosarcoma", "dermatofibrosarcoma protuberans", "angiosarcoma",
            "lymphangioma", "neurofibroma", "melanosis", "squamous cell papilloma", "sebaceous nevus",
        )),
    ],
)  # fmt: skip
def test_another_disease_is_never_suggested(label: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        map_labels([label], {})
    assert said in caught.value.message


def test_a_column_of_free_text_does_not_flood_the_terminal() -> None:
    with pytest.raises(DataError, match="and 50 more"):
        map_labels([f"case {i} \x1b[31m" for i in range(100)], {})


def test_the_user_overrules_the_table() -> None:
    mapping = read_map(["Lentigo = mel", "SCC=squamous cell carcinoma in situ", "a=b=skip"])
    assert map_labels(["lentigo", "scc", "A = B"], mapping) == {"lentigo": "mel", "scc": "akiec", "A = B": "skip"}


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["melanoma"], "theirs=ours"),
        (["=mel"], "theirs=ours"),
        (["x=mell"], "did you mean 'mel'"),
        (["x=mel", "X=nv"], "given twice"),
    ],
)
def test_a_wrong_map_is_refused(pairs: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_map(pairs)


def test_a_map_for_a_label_that_is_not_there_is_a_typing_error() -> None:
    with pytest.raises(ConfigError, match="no label 'scc'"):
        map_labels(["mel"], read_map(["SCC=skip"]))
