"""The loaders: every batch is a function of (seed, epoch, index), wherever the pixels come from."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")

from lesion.config.schema import (  # noqa: E402
    AugmentConfig,
    Config,
    DataConfig,
    ModelConfig,
    PreprocessConfig,
    TrainerConfig,
)
from lesion.data.augment import augment, draw_augmentation, mix  # noqa: E402
from lesion.data.datamodule import Batch, LesionData  # noqa: E402
from lesion.data.pixels import decode_rows  # noqa: E402
from lesion.data.split import Dataset, open_dataset  # noqa: E402
from lesion.errors import ImageError  # noqa: E402
from lesion.preprocess import PreprocessSpec  # noqa: E402
from lesion.taxonomy import Taxonomy  # noqa: E402

SPEC = PreprocessSpec(32, "bilinear", reduce=True)
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


def at(data: LesionData, number: int = 0, rank: int = 0, world: int = 1) -> LesionData:
    """The same data in an epoch, in one process of several."""
    data.trainer = SimpleNamespace(current_epoch=number, global_rank=rank, world_size=world)
    return data


def epoch(data: LesionData, number: int = 0) -> list[Batch]:
    """The training batches of an epoch as the network sees them."""
    at(data, number)
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
    batches = list(at(data, 2).train_dataloader())
    order = data.train.order
    np.testing.assert_array_equal(join(batches, "pixels").numpy(), decode_rows(rows, SPEC)[order])
    targets = np.array([Taxonomy.of("diagnosis").target(row.dx) for row in rows])
    np.testing.assert_array_equal(join(batches, "target").numpy(), targets[order])
    np.testing.assert_array_equal(join(batches, "draws").numpy(), draw_augmentation(len(rows), 0, 2))
    assert sorted(order) == list(range(len(rows)))


def test_augmentation_changes_pixels_as_drawn_and_no_target(dataset: Dataset) -> None:
    data = LesionData(settings(), dataset)
    plain = list(at(data).train_dataloader())
    for before, after in zip(plain, epoch(data), strict=True):
        assert after.keys() == {"pixels", "target"}
        assert after["target"].dtype == torch.float32
        assert torch.equal(after["target"], torch.eye(7)[before["target"]])
        assert torch.equal(after["pixels"], augment(before["pixels"], before["draws"], AugmentConfig()))
        assert not torch.equal(after["pixels"], before["pixels"])


def test_the_configured_augmentation_is_the_one_used(dataset: Dataset) -> None:
    strong = AugmentConfig(rotate=180, hair=0.5, mixup=0.5, cutmix=0.5)
    data = LesionData(replace(settings(), augment=strong), dataset)
    plain = list(at(data).train_dataloader())
    for before, after in zip(plain, epoch(data), strict=True):
        goal = torch.eye(7)[before["target"]]
        pixels, target = mix(augment(before["pixels"], before["draws"], strong), goal, before["draws"], strong)
        assert torch.equal(after["pixels"], pixels)
        assert torch.equal(after["target"], target)
        assert not torch.equal(target, goal)


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


def test_counts_are_those_of_the_training_images(dataset: Dataset) -> None:
    counts = LesionData(settings(), dataset).train.counts
    diagnoses = [row.dx for row in dataset.members["train"]]
    assert counts.tolist() == [diagnoses.count(dx) for dx in Taxonomy.of("diagnosis").labels]


class TestBalance:
    def draw(self, dataset: Dataset, balance: float, epochs: int = 200) -> np.ndarray:
        """How often each training image was drawn."""
        train, seen = LesionData(settings(), dataset).train, np.zeros(len(dataset.members["train"]))
        for number in range(epochs):
            train.shuffle(0, number, balance)
            assert len(train) == len(seen)
            seen += np.bincount(train.order, minlength=len(seen))
        return seen

    @pytest.mark.parametrize("balance", [0.5, 1.0])
    def test_classes_are_drawn_by_their_share_to_the_stated_power(self, balance: float, dataset: Dataset) -> None:
        train = LesionData(settings(), dataset).train
        seen = np.bincount(train.targets.numpy(), self.draw(dataset, balance), minlength=7)
        wanted = train.counts.double().numpy() ** (1 - balance)
        wanted *= seen.sum() / wanted.sum()
        assert train.counts.max() > 3 * train.counts.min()
        np.testing.assert_allclose(seen, wanted, atol=5 * np.sqrt(wanted.max()))

    def test_images_of_one_class_are_drawn_alike(self, dataset: Dataset) -> None:
        seen, targets = self.draw(dataset, 1.0), LesionData(settings(), dataset).train.targets.numpy()
        for label in range(7):
            mine = seen[targets == label]
            assert np.abs(mine - mine.mean()).max() < 6 * np.sqrt(mine.mean())

    def test_without_it_each_image_is_drawn_once(self, dataset: Dataset) -> None:
        assert (self.draw(dataset, 0.0, epochs=3) == 3).all()

    def test_a_class_without_images_is_no_obstacle(self, dataset: Dataset) -> None:
        members = {**dataset.members, "train": [row for row in dataset.members["train"] if row.dx != "df"]}
        data = LesionData(settings(balance=1.0), replace(dataset, members=members))
        assert data.train.counts.tolist().count(0) == 1
        assert len(join(epoch(data), "target")) > 0

    def test_repeated_images_are_augmented_anew(self, dataset: Dataset) -> None:
        data = at(LesionData(settings(balance=1.0), dataset))
        batches = list(data.train_dataloader())
        assert len(np.unique(data.train.order)) < len(data.train)
        assert len(torch.unique(join(batches, "draws"), dim=0)) == len(data.train)

    def test_an_epoch_is_the_same_in_every_instance(self, dataset: Dataset) -> None:
        one, two = (epoch(LesionData(settings(balance=1.0), dataset), 3) for _ in range(2))
        assert same(one, two)


class TestShards:
    """What each of several processes sees."""

    def shards(self, dataset: Dataset, world: int, size: int, balance: float = 0.0) -> list[list[Batch]]:
        config = replace(settings(balance=balance), trainer=TrainerConfig(batch_size=size))
        return [list(at(LesionData(config, dataset), 4, rank, world).train_dataloader()) for rank in range(world)]

    @pytest.mark.parametrize("balance", [0.0, 1.0])
    @pytest.mark.parametrize("world", [1, 2, 3, 4])
    def test_together_they_take_the_steps_of_one_process(self, world: int, balance: float, dataset: Dataset) -> None:
        size = 5
        shards = self.shards(dataset, world, size, balance)
        (whole,) = self.shards(dataset, 1, size * world, balance)
        for step, batches in enumerate(zip(*shards, strict=True)):
            for name in ("pixels", "target", "draws"):
                # Dealt out like cards: the first of each, then the second of each.
                together = torch.stack([batch[name] for batch in batches], 1).flatten(0, 1)
                assert torch.equal(together, whole[step][name][: len(together)])

    @pytest.mark.parametrize("world", [1, 2, 3, 4, 7])
    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 1000])
    def test_all_take_as_many_steps_and_none_of_one_image(self, world: int, size: int, dataset: Dataset) -> None:
        lengths = [[len(batch["target"]) for batch in shard] for shard in self.shards(dataset, world, size)]
        assert all(shard == lengths[0] for shard in lengths)
        assert min(lengths[0]) > 1 or size == 1
        n = len(dataset.members["train"])
        assert n - sum(map(sum, lengths)) < 2 * world

    @pytest.mark.parametrize("world", [1, 2, 3, 5])
    def test_validation_covers_each_image_once(self, world: int, dataset: Dataset) -> None:
        parts = [
            join(list(at(LesionData(settings(), dataset), 0, rank, world).val_dataloader()), "pixels")
            for rank in range(world)
        ]
        wanted = decode_rows(dataset.members["val"], SPEC)
        assert sum(map(len, parts)) == len(wanted)
        for rank, part in enumerate(parts):
            np.testing.assert_array_equal(part.numpy(), wanted[rank::world])

    def test_an_instance_can_be_asked_again(self, dataset: Dataset) -> None:
        data = at(LesionData(settings(), dataset), 1, 1, 2)
        for loader in (data.train_dataloader, data.val_dataloader):
            assert same(list(loader()), list(loader()))
