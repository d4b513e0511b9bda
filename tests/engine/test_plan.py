"""A dry run: what would be trained and what it costs, with no run folder left behind."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from lesion.config.schema import Config
from lesion.data.split import open_dataset
from lesion.engine.plan import describe_recipe, plan
from lesion.records import to_json
from tests.engine.conftest import Trained

pytestmark = pytest.mark.slow


@pytest.fixture
def exact(quick: Config) -> Config:
    return replace(quick, trainer=replace(quick.trainer, precision="32-true"))


def test_a_plan_counts_what_a_training_would_do(exact: Config) -> None:
    config = replace(exact, data=replace(exact.data, subsample=0.5))
    report = plan(config)
    dataset = open_dataset(config.data)
    assert report.data.fingerprint == dataset.fingerprint
    assert report.data.splits["val"]["images"] == len(dataset.members["val"])
    assert 0 < report.training_images < len(dataset.members["train"])
    assert report.steps_per_epoch == math.ceil(report.training_images / 16)
    assert (report.epochs, report.steps) == (3, 3 * report.steps_per_epoch)
    assert report.seconds == pytest.approx(3 * report.seconds_per_epoch)
    assert report.seconds_per_epoch > 0
    assert report.parameters > 1e6
    assert (report.device, report.precision, report.batch_size) == ("cpu", "32-true", 16)
    assert report.peak_memory is None or 2e7 < report.peak_memory < 1e11
    assert 6 * 4 * 4 * report.parameters <= report.needed < report.free
    assert not Path(config.runs).exists()
    assert '"schema"' in to_json(report)


def test_the_plan_of_a_finished_run_is_refused(trained: Trained) -> None:
    from lesion.errors import ConfigError

    with pytest.raises(ConfigError, match="is finished"):
        plan(trained.config, resume=trained.run)


def test_the_recipe_is_in_words() -> None:
    config = Config()
    config.trainer.accumulate, config.trainer.max_minutes = 4, 30
    words = " ".join(describe_recipe(config))
    for part in ("random weights", "AdamW", f"learning rate {config.optim.lr:g}", "seven diagnoses"):
        assert part in words
    for part in ("batches of 32", "gradients of 4 added", "30 minutes"):
        assert part in words
