"""Lightning's loaders over decoded pixels; every batch is a function of (seed, epoch, index) alone."""

from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from lesion.config.schema import Config
from lesion.data import split
from lesion.data.augment import augment, draw_augmentation
from lesion.data.index import Row
from lesion.data.pixels import decode_row, decode_rows
from lesion.preprocess import PreprocessSpec
from lesion.progress import Progress, Silent
from lesion.taxonomy import Taxonomy

Batch = dict[str, torch.Tensor]


class LesionDataset(Dataset[Batch]):
    """Rows of one split as whole batches.

    `order` is the permutation of an epoch and `draws` its augmentation numbers, (n, 6); both None for evaluation.
    """

    def __init__(self, rows: Sequence[Row], spec: PreprocessSpec, taxonomy: Taxonomy) -> None:
        self.rows = rows
        self.spec = spec
        self.targets = torch.tensor([taxonomy.target(row.dx) for row in rows])
        self.pixels: torch.Tensor | None = None
        self.order: npt.NDArray[np.int64] = np.arange(len(rows))
        self.draws: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes of all decoded pixels."""
        return len(self.rows) * self.spec.size**2 * 3

    def load(self, workers: int, progress: Progress, label: str) -> None:
        """Decode everything into memory."""
        self.pixels = torch.from_numpy(decode_rows(self.rows, self.spec, workers, progress, label))

    def shuffle(self, seed: int, epoch: int) -> None:
        """Take the order and the augmentation of `epoch`."""
        self.order = np.random.default_rng((seed, epoch, 0)).permutation(len(self))
        self.draws = torch.from_numpy(draw_augmentation(len(self), seed, epoch))

    def __getitems__(self, positions: list[int]) -> Batch:
        """A batch: pixels uint8 (b, s, s, 3), target int64 (b,), and in training draws float32 (b, 6)."""
        index = torch.from_numpy(self.order[positions])
        batch = {"pixels": self._take(index), "target": self.targets[index]}
        if self.draws is not None:
            batch["draws"] = self.draws[index]
        return batch

    def _take(self, index: torch.Tensor) -> torch.Tensor:
        if self.pixels is not None:
            return self.pixels[index]
        return torch.from_numpy(np.stack([decode_row(self.rows[i], self.spec) for i in index.tolist()]))


class LesionData(L.LightningDataModule):
    """The training and validation loaders of one dataset."""

    def __init__(self, config: Config, dataset: split.Dataset, progress: Progress | None = None) -> None:
        super().__init__()
        self.config = config
        spec = PreprocessSpec(config.preprocess.size, config.preprocess.filter)
        taxonomy = Taxonomy.of(config.model.classes, config.data.malignant)
        rows = split.subsample(dataset.members["train"], config.data.subsample, config.data.split_seed)
        self.train = LesionDataset(rows, spec, taxonomy)
        self.val = LesionDataset(dataset.members["val"], spec, taxonomy)
        self._in_memory = self.train.nbytes + self.val.nbytes <= config.data.memory_gb * 1e9
        if self._in_memory:
            self.train.load(config.data.workers, progress or Silent(), "decode train")
            self.val.load(config.data.workers, progress or Silent(), "decode val")

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
            # Slicing memory is faster than handing batches over from other processes.
            num_workers=0 if self._in_memory else self.config.data.workers,
            collate_fn=_as_is,
            pin_memory=torch.cuda.is_available(),
            **options,
        )


def _as_is(batch: Any) -> Any:
    """`__getitems__` already made the batch."""
    return batch
