"""A dry run: what would be trained and what it costs, with no run folder left behind."""

import math
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from lesion.config.schema import Config
from lesion.data.split import open_dataset
from lesion.engine.plan import _measure, describe_recipe, plan
from lesion.progress import Progress
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


def test_a_measurement_that_fails_leaves_no_bar(quick: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = MagicMock(Progress)

    class Failing:
        def __init__(self, *_: object, **__: object) -> None: ...

        def fit(self, *_: object, **__: object) -> None:
            raise MemoryError

    monkeypatch.setattr("lesion.engine.plan.make_trainer", Failing)
    with pytest.raises(MemoryError):
        _measure(quick, MagicMock(), progress)
    progress.end.assert_called_once()


def test_the_recipe_is_in_words() -> None:
    config = Config()
    config.trainer.accumulate, config.trainer.max_minutes = 4, 30
    words = " ".join(describe_recipe(config))
    for part in ("random weights", "AdamW", f"learning rate {config.optim.lr:g}", "seven diagnoses"):
        assert part in words
    for part in ("batches of 32 per device", "gradients of 4 added", "30 minutes"):
        assert part in words


def test_the_recipe_names_what_is_switched_on_and_nothing_else() -> None:
    config = Config()
    config.optim.ema = config.augment.rotate = 0.0
    plain = " ".join(describe_recipe(config))
    config.loss.weighting, config.loss.focus, config.loss.smoothing, config.loss.adjustment = 0.5, 2.0, 0.1, 1.0
    config.augment.hair, config.augment.rotate, config.augment.mixup = 0.25, 90.0, 0.1
    config.optim.ema, config.optim.freeze, config.data.balance = 0.99, 2, 0.7
    words = " ".join(describe_recipe(config))
    named = ("power of -0.5", "exponent 2", "smoothed by 0.1", "adjusted by 1 times", "hairs on 25%", "turns up to 90°",
             "mixup on 10%", "decay 0.99", "for 2 epochs only the head", "power of -0.7")  # fmt: skip
    for part in named:
        assert part in words
        assert part not in plain
