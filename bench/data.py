"""How fast a dataset is prepared, and how fast its batches come."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.pairs import Row, Run, compare

SIZE = 128
BATCH = 32


def measure(folder: Path, ham10000: Path, native: Path) -> list[Row]:
    """Preparing `ham10000` against a plain Pillow loop; batches against ImageFolder on the JPEGs of `native`."""
    return [*_measure_prepare(folder, ham10000), _measure_epoch(folder, native)]


def _measure_prepare(folder: Path, root: Path) -> list[Row]:
    from PIL import Image

    from lesion.config.schema import DataConfig
    from lesion.data.audit import audit
    from lesion.data.split import open_dataset
    from lesion.preprocess import PreprocessSpec

    config, spec, pngs = (
        DataConfig(root=str(root), processed=str(folder / "processed")),
        PreprocessSpec(SIZE, "bilinear"),
        folder / "png",
    )

    def prepare(**changes: bool) -> None:
        open_dataset(replace(config, **changes)).open_cache(spec, config.workers)

    def start_over(**changes: bool) -> None:
        shutil.rmtree(folder / "processed", ignore_errors=True)
        prepare(**changes)

    def save_pngs() -> None:
        shutil.rmtree(pngs, ignore_errors=True)
        pngs.mkdir()
        for path in sorted((root / "HAM10000_images").glob("*.jpg")):
            Image.open(path).convert("RGB").resize((SIZE, SIZE)).save(pngs / f"{path.stem}.png")

    def against_loop(name: str, run: Run, repeats: int = 1) -> Row:
        return compare(name, run, "Pillow loop to PNG", save_pngs, repeats, warm_ups=0)

    return [
        against_loop("prepare, near-duplicates not sought", lambda: start_over(near_duplicates=False)),
        against_loop("prepare, from nothing", start_over, repeats=3),
        compare("prepare, again", prepare, "from nothing", start_over, repeats=2, warm_ups=0),
        against_loop("audit", lambda: audit(root, folder / "processed", config.workers)),
    ]


def _measure_epoch(folder: Path, native: Path) -> Row:
    ours, theirs = _our_epoch(folder, native, copies=20), _their_epoch(folder, native, copies=2)
    n = len(list(native.glob("*.jpg")))
    # Per image, since the slower one sees fewer of them.
    return compare("an image of an epoch, from cache", ours, "ImageFolder, 2 workers", theirs, 5, 1, 20 * n, 2 * n)


def _our_epoch(folder: Path, native: Path, copies: int) -> Callable[[], None]:
    from lesion.config.schema import Config, PreprocessConfig, TrainerConfig
    from lesion.data.cache import open_cache
    from lesion.data.datamodule import LesionData, LesionDataset
    from lesion.data.index import Row as Image
    from lesion.preprocess import PreprocessSpec
    from lesion.taxonomy import Taxonomy

    rows = [Image(path.stem, path.stem, "nv", path) for path in sorted(native.glob("*.jpg"))]
    cache = open_cache(rows, PreprocessSpec(SIZE, "bilinear"), folder / "native")
    data = LesionData.__new__(LesionData)
    super(LesionData, data).__init__()
    data.config = Config(preprocess=PreprocessConfig(size=SIZE), trainer=TrainerConfig(batch_size=BATCH))
    data.train = LesionDataset(rows * copies, cache, Taxonomy.of("diagnosis"), 4e9)

    def run() -> None:
        for batch in data.train_dataloader():
            data.on_after_batch_transfer(batch, 0)

    return run


def _their_epoch(folder: Path, native: Path, copies: int) -> Callable[[], None]:
    import torch
    from torch.utils.data import ConcatDataset, DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    root = folder / "classes"
    (root / "nv").mkdir(parents=True, exist_ok=True)
    for path in native.glob("*.jpg"):
        shutil.copy(path, root / "nv")
    change = v2.Compose(
        [
            v2.ToImage(), v2.Resize(SIZE, antialias=True), v2.CenterCrop(SIZE), v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(), v2.ColorJitter(0.15, 0.15, 0.05), v2.ToDtype(torch.float32, scale=True),
        ]
    )  # fmt: skip
    dataset = ConcatDataset([ImageFolder(str(root), change)] * copies)

    def run() -> None:
        for _ in DataLoader(dataset, BATCH, shuffle=True, num_workers=2):
            pass

    return run


def draw_images(folder: Path) -> tuple[Path, Path]:
    """Synthetic data of HAM10000's size, for whoever has no other."""
    from lesion.data.synth import SynthSpec, synthesize

    synthesize(folder / "ham10000", SynthSpec(lesions=200))
    return folder / "ham10000", folder / "ham10000" / "HAM10000_images"
