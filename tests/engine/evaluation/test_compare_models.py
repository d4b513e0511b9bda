from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lesion.artifact import Artifact
from lesion.config.schema import Config
from lesion.engine.evaluation.comparison import compare_models, find_differences
from lesion.errors import ConfigError, DataError
from tests.engine.evaluation.conftest import answer, write_model


def test_a_better_model_is_better() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(300) < 0.3
    lesions = [f"L{i // 2}" for i in range(300)]
    truth = truth[::2].repeat(2)
    good = np.clip(rng.normal(0.3 + 0.4 * truth, 0.15), 0.01, 0.99)
    poor = np.clip(rng.normal(0.4 + 0.05 * truth, 0.2), 0.01, 0.99)
    found = {each.figure: each for each in find_differences(answer(good, truth, lesions), answer(poor, truth, lesions))}
    auroc = found["auroc"]
    assert auroc.difference.value == pytest.approx((auroc.a.value or 0) - (auroc.b.value or 0))
    assert auroc.difference.low is not None
    assert auroc.difference.low > 0.1
    assert (auroc.p_value or 1) < 0.01
    assert found["lesion.auroc"].method == "DeLong"
    assert (found["lesion.auroc"].p_value or 1) < 1e-6
    assert found["lesion.auroc"].a.low is not None
    assert (found["brier"].difference.value or 0) < 0


def test_a_model_does_not_differ_from_itself(model: Path, config: Config) -> None:
    report = compare_models(model, model, "test", config)
    assert report.flipped == 0
    assert {each.difference.value for each in report.differences} == {0}
    assert {each.p_value for each in report.differences} == {1}


def test_two_models_without_an_error_on_few_lesions_may_differ_elsewhere() -> None:
    truth = np.arange(20) < 10
    p, q = (np.where(truth, 0.9, 0.1) + rng.uniform(-0.05, 0.05, 20) for rng in map(np.random.default_rng, (1, 2)))
    found = {each.figure: each for each in find_differences(answer(p, truth), answer(q, truth))}
    for name in ("auroc", "sensitivity", "specificity", "lesion.auroc"):
        assert found[name].difference.value == 0
        assert found[name].difference.low < -0.2, name
        assert found[name].p_value == 1
    assert found["calibration_error"].difference.low is found["calibration_error"].p_value is None


def test_two_files_are_compared_on_the_same_split(model: Path, config: Config, ham_root: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other.onnx", ham_root, "tiny2.onnx")
    report = compare_models(model, other, "val", config)
    assert report.a != report.b
    assert report.split == "val"
    assert report.images > report.lesions > 0


def test_without_a_common_split_there_is_no_comparison(model: Path, tmp_path: Path, config: Config) -> None:
    tiny = Artifact.read(model)
    other = tmp_path / "other.onnx"
    other.write_bytes(Artifact.pack(tiny.graph, tiny.with_provenance(split="another"))[1])
    with pytest.raises(DataError, match=r"was trained on split .* on split another"):
        compare_models(model, other, "test", config)


def test_another_question_is_another_model(model: Path, tmp_path: Path, config: Config) -> None:
    tiny = Artifact.read(model)
    taxonomy = replace(tiny.manifest.taxonomy, malignant=("mel",))
    other = tmp_path / "other.onnx"
    other.write_bytes(Artifact.pack(tiny.graph, replace(tiny.manifest, taxonomy=taxonomy))[1])
    with pytest.raises(DataError, match="do not answer the same question"):
        compare_models(model, other, "test", config)


def test_an_unknown_split_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match="did you mean 'val'"):
        compare_models(Path("nowhere"), Path("nowhere"), "vall")
