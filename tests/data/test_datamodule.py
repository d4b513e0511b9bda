"""The loaders: every batch is a function of (seed, epoch, index), wherever the pixels come from."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")

from lesion.config.schema import Config, DataConfig, ModelConfig, PreprocessConfig, TrainerConfig  # noqa: E402
from lesion.data.augment import augment, draw_augmentation  # noqa: E402
from lesion.data.datamodule import Batch, LesionData  # noqa: E402
from lesion.data.pixels import decode_rows  # noqa: E402
from lesion.data.split import Dataset, open_dataset  # noqa: E402
from lesion.errors import ImageError  # noqa: E402
from lesion.preprocess import PreprocessSpec  # noqa: E402
from lesion.taxonomy import Taxonomy  # noqa: E402

SPEC = PreprocessSpec(32, "bilinear")
IN_MEMORY, ON_DEMAND = 4.0, 0.0


@pytest.fixture(scope="module")
def dataset(ham_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(DataConfig(root=str(ham_root), processed=str(tmp_path_factory.mktemp("split"))))


def settings(**data: object) -> Config:
    return Config(
        data=DataConfig(**{"workers": 0, **data}),
        preprocess=PreprocessConfig(size=SPEC.size, filter=SPEC.filter),
        trainer=TrainerConfig(batch_size=16),
    )


def epoch(data: LesionData, number: int = 0) -> list[Batch]:
    """The training batches of an epoch as the network sees them."""
    data.trainer = SimpleNamespace(current_epoch=number)
    return [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]


def join(batches: list[Batch], name: str) -> torch.Tensor:
    return torch.cat([batch[name] for batch in batches])


def same(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in zip(one, two, strict=True)
    )


@pytest.mark.parametrize("number", [0, 3])
def test_an_epoch_is_the_same_in_every_instance(number: int, dataset: Dataset) -> None:
    assert same(epoch(LesionData(settings(), dataset), number), epoch(LesionData(settings(), dataset), number))


def test_an_epoch_does_not_depend_on_those_before_it(dataset: Dataset) -> None:
    data = LesionData(settings(), dataset)
    third = epoch(data, 3)
    epoch(data, 0)
    epoch(data, 1)
    assert same(epoch(data, 3), third)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_does_not_depend_on_where_the_pixels_come_from(workers: int, dataset: Dataset) -> None:
    held = LesionData(settings(memory_gb=IN_MEMORY), dataset)
    made = LesionData(settings(memory_gb=ON_DEMAND, workers=workers), dataset)
    assert not isinstance(held.train.pixels, np.memmap)
    assert isinstance(made.train.pixels, np.memmap)
    for number in (0, 1):
        assert same(epoch(made, number), epoch(held, number))
    assert same(list(made.val_dataloader()), list(held.val_dataloader()))


def test_pixels_are_kept_only_up_to_the_memory_allowed(dataset: Dataset) -> None:
    needed = len(dataset.members["train"]) * 32 * 32 * 3 / 1e9
    assert not isinstance(LesionData(settings(memory_gb=needed), dataset).train.pixels, np.memmap)
    assert isinstance(LesionData(settings(memory_gb=needed * 0.999), dataset).train.pixels, np.memmap)


def test_epochs_differ_in_order_and_in_augmentation(dataset: Dataset) -> None:
    data = LesionData(settings(), dataset)
    epoch(data, 0)
    order, draws = data.train.order.copy(), data.train.draws
    epoch(data, 1)
    assert (data.train.order != order).any()
    assert not torch.isclose(data.train.draws, draws).any(dim=1).all()
    assert sorted(data.train.order) == sorted(order)


def test_another_seed_gives_another_epoch(dataset: Dataset) -> None:
    one, two = (LesionData(replace(settings(), seed=seed), dataset) for seed in (0, 1))
    assert not same(epoch(one), epoch(two))


def test_every_training_image_is_seen_once_an_epoch_with_its_own_target(dataset: Dataset) -> None:
    rows = dataset.members["train"]
    data = LesionData(settings(), dataset)
    data.trainer = SimpleNamespace(current_epoch=2)
    batches = list(data.train_dataloader())
    order = data.train.order
    np.testing.assert_array_equal(join(batches, "pixels").numpy(), decode_rows(rows, SPEC)[order])
    targets = np.array([Taxonomy.of("diagnosis").target(row.dx) for row in rows])
    np.testing.assert_array_equal(join(batches, "target").numpy(), targets[order])
    np.testing.assert_array_equal(join(batches, "draws").numpy(), draw_augmentation(len(rows), 0, 2)[order])
    assert sorted(order) == list(range(len(rows)))


def test_augmentation_changes_pixels_as_drawn_and_no_target(dataset: Dataset) -> None:
    data = LesionData(settings(), dataset)
    data.trainer = SimpleNamespace(current_epoch=0)
    plain = list(data.train_dataloader())
    for before, after in zip(plain, epoch(data), strict=True):
        assert after.keys() == {"pixels", "target"}
        assert torch.equal(after["target"], before["target"])
        assert torch.equal(after["pixels"], augment(before["pixels"], before["draws"]))
        assert not torch.equal(after["pixels"], before["pixels"])


def test_batches_have_the_stated_types(dataset: Dataset) -> None:
    batch = next(iter(LesionData(settings(), dataset).train_dataloader()))
    assert {name: value.dtype for name, value in batch.items()} == {
        "pixels": torch.uint8,
        "target": torch.int64,
        "draws": torch.float32,
    }
    assert batch["pixels"].shape == (16, 32, 32, 3)


def test_validation_is_whole_in_order_and_never_augmented(dataset: Dataset) -> None:
    rows = dataset.members["val"]
    data = LesionData(settings(), dataset)
    epoch(data, 1)
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.val_dataloader()]
    assert all(batch.keys() == {"pixels", "target"} for batch in batches)
    np.testing.assert_array_equal(join(batches, "pixels").numpy(), decode_rows(rows, SPEC))
    assert join(batches, "target").tolist() == [Taxonomy.of("diagnosis").target(row.dx) for row in rows]


def test_a_subsample_shrinks_training_only(dataset: Dataset) -> None:
    whole, part = LesionData(settings(), dataset), LesionData(settings(subsample=0.3), dataset)
    assert {row.dx for row in part.train.rows} == {row.dx for row in whole.train.rows}
    assert 0.2 < len(part.train) / len(whole.train) < 0.45
    assert part.val.rows == whole.val.rows == dataset.members["val"]
    assert same(list(part.val_dataloader()), list(whole.val_dataloader()))


def test_a_last_batch_of_one_image_is_dropped_in_training_only(dataset: Dataset) -> None:
    n, m = len(dataset.members["train"]), len(dataset.members["val"])
    for size, kept in ((n - 1, n - 1), (n - 2, n), (n, n), (n + 5, n)):
        data = LesionData(replace(settings(), trainer=TrainerConfig(batch_size=size)), dataset)
        assert sum(len(batch["target"]) for batch in epoch(data)) == kept
    data = LesionData(replace(settings(), trainer=TrainerConfig(batch_size=m - 1)), dataset)
    assert [len(batch["target"]) for batch in data.val_dataloader()] == [m - 1, 1]


def test_the_two_classes_may_be_the_targets(dataset: Dataset) -> None:
    config = replace(settings(malignant=["mel"]), model=ModelConfig(classes="malignancy"))
    wanted = [int(row.dx == "mel") for row in dataset.members["val"]]
    assert 0 < sum(wanted) < len(wanted)
    assert join(list(LesionData(config, dataset).val_dataloader()), "target").tolist() == wanted


def test_a_damaged_image_is_named(ham_copy: Path) -> None:
    dataset = open_dataset(DataConfig(root=str(ham_copy)))
    damaged = dataset.members["val"][0].path
    damaged.write_bytes(damaged.read_bytes()[:-200])
    with pytest.raises(ImageError, match=damaged.name):
        LesionData(settings(), dataset)
