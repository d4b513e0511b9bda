"""The card: recorded facts, and the word for what is missing."""

import re
from dataclasses import replace

import pytest

from lesion.artifact import Artifact
from lesion.engine.evaluation.card import render_card
from lesion.engine.evaluation.markdown import draw_list, draw_table, to_markdown
from lesion.engine.evaluation.words import show
from lesion.evaluation import Evaluation
from lesion.manifest import Manifest
from lesion.records import NOTICE, Estimate
from tests.conftest import GOLDEN
from tests.engine.evaluation.sample import make_bare, make_evaluation

FACTS = {
    "data": "HAM10000", "split": "c8b320cbe612", "tier": "resnet", "parameters": 11_200_000, "run": "one",
    "checkpoint": "epoch=09.ckpt", "config": "abcdef", "exported": "2026-11-23", "lesion": "0.5", "cores": 5,
    "operating_point": "sensitivity >= 0.95 on validation", "notice": NOTICE,
    "parity": {"images": 1504, "max_difference": 1e-6, "flips": 0}, "validation": {"auroc": 0.91, "f1": None},
}  # fmt: skip


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return make_evaluation()


@pytest.fixture
def manifest() -> Manifest:
    return replace(Artifact.read(GOLDEN / "tiny.onnx").manifest, provenance=FACTS)


def without(manifest: Manifest, **changes: object) -> Manifest:
    return replace(manifest, provenance={**FACTS, **changes})


def section(card: str, title: str) -> str:
    return card.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_card_says_what_is_recorded(evaluation: Evaluation, manifest: Manifest) -> None:
    card = render_card(evaluation, manifest)
    assert card.index(NOTICE) < card.index("## Use")
    assert "not recorded" not in card
    for words in ("11,200,000", "epoch=09.ckpt", "Cores | 5", "sensitivity ≥ 0.95 on validation", "c8b320cbe612",
                  "1504 images", "| melanoma (mel) | malignant |", "32 × 32", "0123456789ab", "spot"):  # fmt: skip
        assert words in card, words
    for name, estimate in evaluation.metrics.items():
        assert show(estimate, name) in section(card, "Results")
    assert "Skin tone is a proxy" in section(card, "Results")
    assert "blur (2 % of the shorter side) by −0.083" in section(card, "Known limits")


def test_an_ensemble_is_told_by_its_members(manifest: Manifest) -> None:
    members = [{"run": run, "model": f"resnet@{run}", "sha256": "0"} for run in ("one", "two")]
    told = section(render_card(None, without(manifest, members=members)), "Training")
    assert "| Mean of | resnet@one of run one; resnet@two of run two |" in told
    assert "Checkpoint" not in told


@pytest.mark.parametrize(
    ("data", "licence", "free"),
    [("HAM10000", "CC BY-NC 4.0", False), ("HAM10000 layout", "not recorded", True), (None, "not recorded", True),
     ("synthetic", "drawn by lesion", True)],
)  # fmt: skip
def test_a_licence_is_named_only_for_data_that_are_recorded_to_have_it(
    evaluation: Evaluation, manifest: Manifest, data: str | None, licence: str, free: bool
) -> None:
    card = render_card(evaluation, without(manifest, data=data))
    assert licence in section(card, "Data and licence")
    assert ("non-commercial" not in card) == free
    assert ("Kinyanjui" not in card) == free


def test_a_card_without_facts_says_that_they_are_missing(manifest: Manifest) -> None:
    card = render_card(None, replace(manifest, provenance={}, checks=()))
    assert card.count("not recorded") >= 12
    assert "has not been evaluated" in card
    assert "no checks of pictures" in card
    assert "None" not in card


def test_without_an_evaluation_validation_stands_in_and_is_said_to_flatter(manifest: Manifest) -> None:
    results = section(render_card(None, manifest), "Results")
    assert "flatter" in results
    assert "| AUROC | 0.910 |" in results
    assert "| F1 | not recorded |" in results


def test_an_evaluation_of_next_to_nothing_has_no_numbers_made_of_nothing(manifest: Manifest) -> None:
    card = render_card(make_bare(), manifest)
    assert "| AUROC | – | – |" in card
    assert "AUROC: no image is malignant" in card
    assert not re.search(r"\b(nan|None|inf)\b", card)


def test_a_subgroup_that_is_clearly_worse_is_a_known_limit(evaluation: Evaluation, manifest: Manifest) -> None:
    worse = replace(evaluation.subgroups[0], value="over 90")
    figures = worse.metrics | {"auroc": Estimate(0.5, 0.4, 0.6), "sensitivity": Estimate(0.1, 0.0, 0.2)}
    worse = replace(worse, metrics=figures, rest={"auroc": 0.9, "sensitivity": 0.95}, p_lower={"auroc": 0.049})
    limits = section(render_card(replace(evaluation, subgroups=[worse]), manifest), "Known limits")
    assert "**AUROC** is lower than in all other images for age over 90 0.500 (0.400 to 0.600) against 0.900." in limits
    assert "lesions are harder to judge" in limits
    assert "**Sensitivity" not in limits  # however low: it was not compared
    likely = replace(worse, p_lower={"auroc": 0.05})
    assert "lower than in all other" not in render_card(replace(evaluation, subgroups=[likely]), manifest)


def test_of_another_split_nothing_is_claimed_about_its_source(evaluation: Evaluation, manifest: Manifest) -> None:
    assert "same dataset" in render_card(evaluation, manifest)
    assert "same dataset" not in render_card(replace(evaluation, fingerprint="other"), manifest)


def test_what_strangers_wrote_cannot_become_markup(evaluation: Evaluation, manifest: Manifest) -> None:
    evil = "<script>|`[x](http://y)\n# *\x1b"
    facts = {**FACTS, "tier": evil, evil: evil, "data": evil, "split": evil, "operating_point": evil}
    worst = replace(evaluation, model=evil, data=evil, fingerprint=evil, undefined={evil: evil})
    card = render_card(worst, replace(manifest, provenance=facts))
    assert "<script" not in card.replace("\\<script", "")
    assert "\x1b" not in card
    assert "\n# *" not in card
    table = [line for line in card.splitlines() if line.startswith("| Network")]
    assert table[0].replace("\\|", "").count("|") == 3


def test_markdown_parts() -> None:
    assert to_markdown("a|b\n<c>") == r"a\|b\\n\<c\>"
    assert draw_table(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"
    assert draw_table(["a"], []) == draw_list([]) == ""
