"""The images that an exported file is fitted and checked on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lesion.config.schema import Config
from lesion.data.split import Dataset
from lesion.preprocess import PreprocessSpec
from lesion.progress import Progress
from lesion.taxonomy import Taxonomy

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Validation:
    """The validation split as a network sees it."""

    pixels: Pixels
    """(n, size, size, 3)"""
    targets: npt.NDArray[np.int64]
    """(n,)"""
    malignant: npt.NDArray[np.bool_]
    """(n,)"""
    lesions: list[str]
    """The lesion of each image: images of one lesion are no independent evidence."""

    @classmethod
    def of(cls, dataset: Dataset, config: Config, progress: Progress) -> "Validation":
        """The validation split, from the cache of decoded pixels."""
        rows = dataset.members["val"]
        taxonomy = Taxonomy.of(config.model.classes, config.data.malignant)
        return cls(
            dataset.open_cache(_spec(config), config.data.workers, progress).take(rows),
            np.array([taxonomy.target(row.dx) for row in rows]),
            np.array([taxonomy.is_malignant(row.dx) for row in rows]),
            [row.lesion_id for row in rows],
        )


def sample_training(dataset: Dataset, config: Config, count: int, progress: Progress) -> Pixels:
    """The pixels of at most `count` training images, spread over the whole split: (n, size, size, 3)."""
    rows = dataset.members["train"]
    chosen = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return dataset.open_cache(_spec(config), config.data.workers, progress).take([rows[i] for i in chosen])


def _spec(config: Config) -> PreprocessSpec:
    return PreprocessSpec(**vars(config.preprocess))
