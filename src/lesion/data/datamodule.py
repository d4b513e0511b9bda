"""Lightning's loaders over decoded pixels; every batch is a function of (seed, epoch, index) alone."""

from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lesion.config.schema import Config
from lesion.data import split
from lesion.data.augment import augment, draw_augmentation
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
        self.order = np.arange(len(rows))
        self.draws: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def shuffle(self, seed: int, epoch: int) -> None:
        """Take the order and the augmentation of `epoch`."""
        self.order = np.random.default_rng((seed, epoch, 0)).permutation(len(self))
        self.draws = torch.from_numpy(draw_augmentation(len(self), seed, epoch))

    def __getitems__(self, positions: list[int]) -> Batch:
        """A batch: pixels uint8 (b, s, s, 3), target int64 (b,), and in training draws float32 (b, 6)."""
        chosen = self.order[positions]
        batch = {"pixels": torch.from_numpy(self.pixels[self.index[chosen]]), "target": self.targets[chosen]}
        if self.draws is not None:
            batch["draws"] = self.draws[chosen]
        return batch


class LesionData(L.LightningDataModule):
    """The training and validation loaders of one dataset."""

    def __init__(self, config: Config, dataset: split.Dataset, progress: Progress | None = None) -> None:
        super().__init__()
        self.config = config
        spec = PreprocessSpec(config.preprocess.size, config.preprocess.filter)
        taxonomy = Taxonomy.of(config.model.classes, config.data.malignant)
        rows = subsample(dataset.members["train"], config.data.subsample, config.data.split_seed)
        cache = dataset.open_cache(spec, config.data.workers, progress)
        memory = config.data.memory_gb * 1e9
        self.train = LesionDataset(rows, cache, taxonomy, memory)
        self.val = LesionDataset(dataset.members["val"], cache, taxonomy, memory)

    def train_dataloader(self) -> DataLoader[Batch]:
        """This epoch's batches; the Trainer asks anew each epoch, so a resumed run sees the same ones."""
        self.train.shuffle(self.config.seed, self.trainer.current_epoch if self.trainer else 0)
        # An incomplete last batch of one image would break batch normalisation.
        return self._loader(self.train, drop_last=len(self.train) % self.config.trainer.batch_size == 1)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation split in order."""
        return self._loader(self.val)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment on the device that trains."""
        draws = batch.pop("draws", None)
        if draws is not None:
            batch["pixels"] = augment(batch["pixels"], draws)
        return batch

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
