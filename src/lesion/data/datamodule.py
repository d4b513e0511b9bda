"""Lightning's loaders over decoded pixels; every batch is a function of (seed, epoch, index) alone."""

from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, Dataset

from lesion.config.schema import Config
from lesion.data import split
from lesion.data.augment import augment, draw_augmentation, mix
from lesion.data.cache import PixelCache
from lesion.data.index import Row
from lesion.data.partition import subsample
from lesion.preprocess import PreprocessSpec
from lesion.progress import Progress
from lesion.taxonomy import Taxonomy

Batch = dict[str, torch.Tensor]


class LesionDataset(Dataset[Batch]):
    """Rows of one split as whole batches, sliced out of decoded pixels."""

    def __init__(self, rows: Sequence[Row], cache: PixelCache, taxonomy: Taxonomy, memory: float) -> None:
        """Copy the pixels into memory if they take at most `memory` bytes, else read them from the mapped file."""
        self.rows = rows
        self.targets = torch.tensor([taxonomy.target(row.dx) for row in rows])
        self.pixels, self.index = cache.pixels, cache.find(rows)
        if len(rows) * cache.pixels[0].nbytes <= memory:
            self.pixels, self.index = cache.take(rows), np.arange(len(rows))
        self.counts = torch.bincount(self.targets, minlength=len(taxonomy.labels))
        """Images of each class, (classes,)."""
        self.order = np.arange(len(rows))
        """The rows in the order in which they are read."""
        self.draws: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.order)

    def shuffle(self, seed: int, epoch: int, balance: float = 0.0) -> None:
        """Take the order and the augmentation of `epoch`; with `balance`, rows are drawn again and again."""
        rng, n = np.random.default_rng((seed, epoch, 0)), len(self.rows)
        chance = self.counts[self.targets].double().numpy() ** -balance
        self.order = rng.choice(n, n, p=chance / chance.sum()) if balance else rng.permutation(n)
        self.draws = torch.from_numpy(draw_augmentation(n, seed, epoch))

    def shard(self, rank: int, world: int) -> None:
        """Keep every `world`-th row of the order: together, the ranks' batches are those of one larger process."""
        self.order = self.order[rank::world]
        self.draws = None if self.draws is None else self.draws[rank::world]

    def __getitems__(self, positions: list[int]) -> Batch:
        """A batch: pixels uint8 (b, s, s, 3), target int64 (b,), and in training draws float32 (b, 19)."""
        chosen = self.order[positions]
        batch = {"pixels": torch.from_numpy(self.pixels[self.index[chosen]]), "target": self.targets[chosen]}
        if self.draws is not None:
            batch["draws"] = self.draws[positions]
        return batch


class LesionData(L.LightningDataModule):
    """The training and validation loaders of one dataset."""

    def __init__(self, config: Config, dataset: split.Dataset, progress: Progress | None = None) -> None:
        super().__init__()
        self.config = config
        spec = PreprocessSpec(**vars(config.preprocess))
        taxonomy = Taxonomy.of(config.model.classes, config.data.malignant)
        rows = subsample(dataset.members["train"], config.data.subsample, config.data.split_seed)
        cache = dataset.open_cache(spec, config.data.workers, progress)
        self.fingerprint = cache.fingerprint
        memory = config.data.memory_gb * 1e9
        self.train = LesionDataset(rows, cache, taxonomy, memory)
        self.val = LesionDataset(dataset.members["val"], cache, taxonomy, memory)

    def train_dataloader(self) -> DataLoader[Batch]:
        """This epoch's batches; the Trainer asks anew each epoch, so a resumed run sees the same ones."""
        rank, world = self._place()
        self.train.shuffle(
            self.config.seed, self.trainer.current_epoch if self.trainer else 0, self.config.data.balance
        )
        # Each process gets as many, and no last batch of a single one, which would break batch normalisation.
        each = len(self.train) // world
        each -= each > 1 and each % self.config.trainer.batch_size == 1
        self.train.order = self.train.order[: each * world]
        self.train.shard(rank, world)
        return self._loader(self.train)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation split in order; of several processes, each gets its share, none twice."""
        self.val.order = np.arange(len(self.val.rows))
        self.val.shard(*self._place())
        return self._loader(self.val)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment on the device that trains; targets become probabilities, float32 (b, classes)."""
        draws = batch.pop("draws", None)
        if draws is not None:
            pixels = augment(batch["pixels"], draws, self.config.augment)
            goal = one_hot(batch["target"], len(self.train.counts)).float()
            batch["pixels"], batch["target"] = mix(pixels, goal, draws, self.config.augment)
        return batch

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, dataset: LesionDataset, **options: Any) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            batch_size=self.config.trainer.batch_size,
            num_workers=0,  # slicing decoded pixels is faster than handing batches over from other processes
            collate_fn=_as_is,
            pin_memory=torch.cuda.is_available(),
            **options,
        )


def _as_is(batch: Any) -> Any:
    """`__getitems__` already made the batch."""
    return batch
