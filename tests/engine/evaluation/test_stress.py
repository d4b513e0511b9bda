from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lesion.config.load import load_config
from lesion.data.split import open_dataset
from lesion.engine.evaluation.answers import ask
from lesion.engine.evaluation.changes import OF_PHOTO, OF_PIXELS
from lesion.engine.evaluation.stress import compare_changed, estimate_stress, spread
from lesion.inference.predictor import Predictor
from lesion.progress import Silent
from tests.engine.evaluation.conftest import answer

KEY = ("blur", "much")


def test_lesions_are_spread_in_proportion() -> None:
    lesions = [f"L{i // 2}" for i in range(200)]
    truth = np.array([i // 2 % 5 == 0 for i in range(200)])
    places = spread(lesions, truth, 50)
    assert len({lesions[i] for i in places}) == len(places) == 50
    assert truth[places].sum() == 10
    assert len(spread(lesions, truth, 1000)) == 100


def test_a_change_is_measured_on_the_same_images() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(150) < 0.3
    before = np.clip(rng.normal(0.3 + 0.3 * truth, 0.15), 0.01, 0.99)
    after = np.clip(before + rng.normal(0, 0.2, 150), 0.01, 0.99)
    (found,) = compare_changed(answer(before, truth), {KEY: answer(after, truth)})
    assert (found.name, found.level) == KEY
    assert found.auroc.value == pytest.approx(roc_auc_score(truth, after))
    assert found.auroc_change.value == pytest.approx(roc_auc_score(truth, after) - roc_auc_score(truth, before))
    assert found.flipped.value == ((before >= 0.4) != (after >= 0.4)).mean()
    assert found.referred == ((after >= 0.35) & (after <= 0.45)).mean()
    assert found.auroc_change.low is not None
    assert found.auroc_change.low < found.auroc_change.value < (found.auroc_change.high or 0)


def test_no_change_flips_nothing() -> None:
    plain = answer([0.1, 0.2, 0.8, 0.9, 0.3], [False, False, True, True, True])
    (found,) = compare_changed(plain, {KEY: plain})
    assert found.auroc_change.value == 0
    assert found.flipped.value == 0
    assert found.flipped.high == pytest.approx(1 - 0.025 ** (1 / 5))  # Clopper-Pearson of none in five


def test_without_malignant_images_only_flips_are_counted() -> None:
    (found,) = compare_changed(answer([0.1, 0.2], [False] * 2), {KEY: answer([0.1, 0.9], [False] * 2)})
    assert found.auroc.value is None
    assert found.auroc_change.value is None
    assert found.flipped.value == 1 / 2


def test_every_change_reaches_the_model(ham_root: Path, model: Path) -> None:
    predictor, config = Predictor.load(model), load_config(overrides=[f"data.root={ham_root}"])
    dataset = open_dataset(config.data)
    rows = dataset.members["val"]
    pixels = dataset.open_cache(predictor.manifest.preprocess, 1).take(rows)
    answers = ask(predictor, rows, pixels, Silent())
    found = {(each.name, each.level): each for each in estimate_stress(predictor, answers, pixels, 40, 2, Silent())}
    assert list(found) == [*OF_PIXELS, *OF_PHOTO]
    # The tiny model answers from the mean colour: turning changes nothing, light does.
    assert found["rotation", "90°"].flipped.value == 0
    assert found["brightness", "+ 20 %"].auroc != found["brightness", "- 20 %"].auroc
