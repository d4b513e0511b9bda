"""Drift: the index is right, its noise is known, and neither chance nor hostile figures raise the alarm."""

import json
import math
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lesion.inference.predictor import Predictor
from lesion.manifest import Check, Manifest, Reference
from lesion.serve.drift import Drift, chance, stability
from tests.conftest import GOLDEN

TENTHS = tuple(number / 10 for number in range(1, 10))


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    """Ten equal bins each for the malignant probability and the second of two checks, from 1500 images."""
    checks = (Check("sharpness", None, None, "", ""), Check("brightness", None, None, "", ""))
    references = tuple(
        Reference(name, TENTHS, (0.1,) * 10) for name in ("malignant", "brightness", "no longer measured")
    )
    known = Predictor.load(GOLDEN / "tiny.onnx").manifest
    return replace(known, checks=checks, reference=references, provenance={"parity": {"images": 1500}})


def fill(drift: Drift, malignant: Any, brightness: Any) -> dict[str, Any]:
    for p, b in zip(malignant, brightness, strict=True):
        drift.add(float(p), np.array([0.5, b], np.float32))
    return drift.report()


def test_the_index_is_that_of_the_formula() -> None:
    expected = (0.5 - 0.25) * math.log(0.5 / 0.25) + (0.5 - 0.75) * math.log(0.5 / 0.75)
    assert stability([10**9, 10**9], [0.25, 0.75], 10**9) == pytest.approx(expected, rel=1e-6)
    assert stability([250, 750], [0.25, 0.75], 1000) == pytest.approx(0)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20), st.integers(1, 10**6), st.randoms())
def test_the_index_is_a_finite_figure_that_is_not_negative(counts: list[int], images: int, draw: Any) -> None:
    weights = [draw.choice([0, draw.random()]) for _ in counts]
    shares = [weight / (sum(weights) or 1) for weight in weights]
    if sum(counts):
        assert 0 <= round(stability(counts, shares, images), 9) < math.inf


def test_its_noise_is_what_the_theory_says() -> None:
    draw = np.random.default_rng(0)
    for n, m in ((200, 1500), (500, 1500), (500, 10_000)):
        samples = draw.multinomial(n, [0.1] * 10, 4000)
        found = [
            stability(sample.tolist(), (reference / m).tolist(), m)
            for sample, reference in zip(samples, draw.multinomial(m, [0.1] * 10, 4000), strict=True)
        ]
        assert np.mean(found) == pytest.approx(9 * (1 / n + 1 / m), rel=0.1)
        assert np.mean(np.array(found) > chance(10) * (1 / n + 1 / m)) < 0.005


@pytest.mark.parametrize(("bins", "quantile"), [(2, 10.828), (5, 18.467), (10, 27.877), (20, 43.820)])
def test_its_limit_is_the_quantile_of_the_tables(bins: int, quantile: float) -> None:
    assert chance(bins) == pytest.approx(quantile, rel=0.04)


def test_the_same_images_are_steady_and_others_have_drifted(manifest: Manifest) -> None:
    draw = np.random.default_rng(1)
    report = fill(Drift(manifest), draw.uniform(0, 1, 600), draw.uniform(0, 0.5, 600))
    assert list(report["quantities"]) == ["malignant", "brightness"]
    assert (report["images"], report["window"], report["alert"], report["status"]) == (500, 500, 0.25, "drifted")
    malignant, brightness = report["quantities"].values()
    assert (malignant["status"], brightness["status"]) == ("steady", "drifted")
    assert malignant["expected"] == pytest.approx(9 * (1 / 500 + 1 / 1500))
    assert brightness["psi"] > 1
    assert sum(brightness["shares"]) == pytest.approx(1)
    assert brightness["shares"][5:] == [0] * 5


def test_too_few_images_are_said_to_be_too_few(manifest: Manifest) -> None:
    drift, needed = Drift(manifest), 122
    report = fill(drift, [0.95] * (needed - 1), [0.5] * (needed - 1))
    assert {each["status"] for each in report["quantities"].values()} == {report["status"]} == {"too few"}
    assert {each["needed"] for each in report["quantities"].values()} == {needed}
    assert fill(drift, [0.95], [0.5])["status"] == "drifted"


def draw_bursts(seed: int, images: int, burst: int) -> np.ndarray[Any, Any]:
    """Values without drift, in bursts of images of one lesion."""
    draw = np.random.default_rng(seed)
    own = np.repeat(draw.uniform(0, 1, -(-images // burst)), burst)[:images]
    return np.clip(own + draw.normal(0, 0.02, images), 0, 1)


@pytest.mark.parametrize("burst", [1, 3, 5])
def test_several_images_of_each_lesion_raise_no_alarm(manifest: Manifest, burst: int) -> None:
    alarms, effects = 0, []
    for seed in range(40):
        values = draw_bursts(seed, 150, burst)
        report = fill(Drift(manifest), values, np.random.default_rng(seed).uniform(0, 1, 150))["quantities"]
        alarms += report["malignant"]["status"] == "drifted"
        effects.append(150 / report["malignant"]["independent"])
        assert report["brightness"]["independent"] > 75
    assert alarms == 0
    assert np.mean(effects) == pytest.approx(burst * 0.85, rel=0.25)


@pytest.mark.parametrize("burst", [1, 5])
def test_a_drift_is_found_among_bursts_and_when_it_begins_within_the_window(manifest: Manifest, burst: int) -> None:
    for seed in range(10):
        values = draw_bursts(seed, 1000, burst)
        values[150:] = values[150:] ** 3
        drift = Drift(manifest, window=1000)
        assert fill(drift, values, draw_bursts(99, 1000, 1))["quantities"]["malignant"]["status"] == "drifted"


def test_a_validation_that_was_too_small_never_raises_an_alarm(manifest: Manifest) -> None:
    report = fill(Drift(replace(manifest, provenance={"parity": {"images": 90}})), [0.95] * 600, [0.5] * 600)
    assert report["status"] == "too few"
    assert report["quantities"]["malignant"]["needed"] is None


@pytest.mark.parametrize(
    "provenance", [{}, {"parity": None}, {"parity": {"images": "many"}}, {"parity": {"images": 0}}]
)
def test_a_model_that_does_not_say_its_validation_is_compared_nonetheless(
    manifest: Manifest, provenance: dict[str, Any]
) -> None:
    report = fill(Drift(replace(manifest, provenance=provenance)), [0.95] * 600, [0.5] * 600)
    assert report["status"] == "drifted"


def test_nothing_is_no_figure(manifest: Manifest) -> None:
    report = Drift(manifest).report()
    assert (report["images"], report["status"], report["predictions"], report["decisions"]) == (0, "too few", {}, {})
    assert report["quantities"]["malignant"]["psi"] is None
    json.dumps(report, allow_nan=False)


def test_what_is_no_number_is_not_counted(manifest: Manifest) -> None:
    report = fill(Drift(manifest), [0.1, 0.2, 0.3], [math.nan, math.inf, 0.5])
    assert report["quantities"]["brightness"]["images"] == 1
    assert report["quantities"]["malignant"]["images"] == 3
    json.dumps(report, allow_nan=False)


def test_the_window_forgets(manifest: Manifest) -> None:
    drift = Drift(manifest, window=50)
    fill(drift, [0.95] * 50, [0.5] * 50)
    draw = np.random.default_rng(2).uniform(0, 1, 50)
    fresh = Drift(manifest, window=50)
    assert fill(drift, draw, draw) == fill(fresh, draw, draw)
    assert sum(drift._predictions.values()) == 50


def test_an_image_falls_into_the_bin_that_validation_put_it_into(manifest: Manifest) -> None:
    values = np.array([0.0, 0.1, 0.15, 0.9, 1.0])
    report = fill(Drift(manifest), values, [0.5] * 5)
    bins = np.bincount(np.searchsorted(TENTHS, values, side="right"), minlength=10)  # as engine.calibrate counts
    assert report["quantities"]["malignant"]["shares"] == (bins / 5).tolist()


def test_predictions_and_decisions_are_shares(manifest: Manifest) -> None:
    drift = Drift(manifest)
    for malignant, decision in ((0.4, "malignant"), (0.39, "refer"), (0.1, "benign"), (0.1, "benign")):
        drift.add(malignant, [0.5, 0.5], decision)
    report = drift.report()
    assert report["predictions"] == {"benign": 0.75, "malignant": 0.25}
    assert report["decisions"] == {"benign": 0.5, "malignant": 0.25, "refer": 0.25}


def test_a_constant_reference_does_not_break_it(manifest: Manifest) -> None:
    constant = replace(manifest, reference=(Reference("malignant", (), (1.0,)),))
    report = fill(Drift(constant), [0.5] * 600, [0.5] * 600)
    assert (report["quantities"]["malignant"]["psi"], report["status"]) == (0, "steady")


def test_many_threads_may_count_at_once(manifest: Manifest) -> None:
    drift = Drift(manifest, window=100)

    def count() -> None:
        for number in range(500):
            drift.add(number % 10 / 10, [0.5, 0.5], "refer")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        assert drift.report()["images"] <= 100
    for thread in threads:
        thread.join()
    assert drift.report()["quantities"]["malignant"]["images"] == 100
    assert sum(drift._tracks[0].counts) == sum(drift._decisions.values()) == 100
