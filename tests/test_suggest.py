"""Did you mean?"""

import pytest

from lesion.errors import ConfigError
from lesion.suggest import lookup, nearest

TIERS = {"baseline": 1, "resnet": 2, "efficientnet": 3}


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("resnt", "resnet"),
        ("ResNet", "resnet"),
        ("RESNET", "resnet"),
        ("base-line", "baseline"),
        ("efficient_net", "efficientnet"),
        ("xyz", None),
        ("", None),
    ],
)
def test_the_nearest_choice_is_found_and_nothing_when_all_are_far(word: str, wanted: str | None) -> None:
    assert nearest(word, TIERS) == wanted
    assert nearest(word, iter(TIERS)) == wanted


def test_among_no_choices_nothing_is_near() -> None:
    assert nearest("resnet", []) is None


def test_a_known_word_is_looked_up() -> None:
    assert [lookup(TIERS, word, "tier") for word in TIERS] == [1, 2, 3]


def test_a_value_that_is_false_is_found_too() -> None:
    assert lookup({"none": None, "zero": 0}, "zero", "number") == 0
    assert lookup({"none": None, "zero": 0}, "none", "number") is None


def test_a_misspelt_word_names_the_nearest_and_all_choices() -> None:
    with pytest.raises(ConfigError) as caught:
        lookup(TIERS, "resnt", "tier")
    assert caught.value.message == "unknown tier 'resnt'; did you mean 'resnet'?"
    assert caught.value.hint == "one of: baseline, resnet, efficientnet"
    assert caught.value.exit_code == 2


def test_a_strange_word_names_only_the_choices() -> None:
    with pytest.raises(ConfigError) as caught:
        lookup(TIERS, "xyz", "tier")
    assert caught.value.message == "unknown tier 'xyz'"
    assert caught.value.hint == "one of: baseline, resnet, efficientnet"
