"""The images that a file is fitted and checked on."""

from dataclasses import replace

import numpy as np
import pytest

from lesion.config.schema import Config
from lesion.data.pixels import decode_rows
from lesion.data.split import Dataset, open_dataset
from lesion.engine.validation import Validation, sample_training
from lesion.preprocess import PreprocessSpec
from lesion.progress import Silent

SPEC = PreprocessSpec(32, "bilinear", reduce=True)


@pytest.fixture
def dataset(quick: Config) -> Dataset:
    return open_dataset(quick.data)


def test_it_is_the_validation_split_as_the_network_sees_it(quick: Config, dataset: Dataset) -> None:
    rows = dataset.members["val"]
    validation = Validation.of(dataset, quick, Silent())
    assert np.array_equal(validation.pixels, decode_rows(rows, SPEC))
    assert validation.lesions == [row.lesion_id for row in rows]
    assert validation.malignant.tolist() == [row.dx in quick.data.malignant for row in rows]
    assert [sorted(["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"])[i] for i in validation.targets] == [
        row.dx for row in rows
    ]


def test_of_two_classes_the_target_is_whether_it_is_malignant(quick: Config, dataset: Dataset) -> None:
    config = replace(quick, model=replace(quick.model, classes="malignancy"))
    validation = Validation.of(dataset, config, Silent())
    assert np.array_equal(validation.targets, validation.malignant)


@pytest.mark.parametrize("count", [1, 7, 40, 10_000])
def test_a_sample_is_spread_over_all_training_images(quick: Config, dataset: Dataset, count: int) -> None:
    everything = decode_rows(dataset.members["train"], SPEC)
    places = {pixels.tobytes(): i for i, pixels in enumerate(everything)}
    found = [places[pixels.tobytes()] for pixels in sample_training(dataset, quick, count, Silent())]
    n = len(everything)
    assert len(found) == len(set(found)) == min(count, n)
    assert found[0] == 0
    if count > 1:
        assert found[-1] == n - 1
        assert max(np.diff(found)) <= (n - 1) / (min(count, n) - 1) + 1
