"""How many images a second are trained on: the same network, size and JPEGs, once here and once as people do."""

import csv
import random
import shutil
import sys
from pathlib import Path
from time import perf_counter

from bench.pairs import Row, Run, compare

BATCH = 32
COPIES = 4  # of the native JPEGs, so that an epoch is long enough to time
SIZE = 128
TIERS = ("baseline", "resnet", "efficientnet")
DX = ("nv", "mel", "bcc", "bkl", "akiec", "df", "vasc")


def measure(folder: Path, native: Path) -> list[Row]:
    """Every tier against Lightning with ImageFolder, the baseline against Ultralytics' smallest classifier.

    Of each, the steps of an epoch: no validation, no checkpoint, and here the images decoded beforehand.
    """
    root, classes, n = _lay_out(folder / "training", native)
    rows = []
    for tier in TIERS:
        ours = _our_epoch(tier, root, folder / "runs")
        rows.append(
            _compare(f"train {tier}, an image", ours, "Lightning + ImageFolder", _their_epoch(tier, classes), n)
        )
    try:
        yolo = _yolo_epoch(classes, folder / "yolo")
    except ImportError:
        print("ultralytics is not installed (`make bench` installs it): skipped", file=sys.stderr)
        return rows
    ours = _our_epoch("baseline", root, folder / "runs")
    return [*rows, _compare("train baseline, an image", ours, "yolo classify train", yolo, n)]


def _compare(name: str, ours: Run, other: str, theirs: Run, n: int) -> Row:
    return compare(name, ours, other, theirs, repeats=3, warm_ups=1, our_items=n, their_items=n)


def _lay_out(folder: Path, native: Path) -> tuple[Path, Path, int]:
    """The JPEGs once in HAM10000's layout, and once the training ones among them as a folder of class folders."""
    from lesion.config.schema import DataConfig
    from lesion.data.split import open_dataset

    root, rng = folder / "ham10000", random.Random(0)
    (root / "HAM10000_images").mkdir(parents=True)
    with (root / "HAM10000_metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization", "dataset"])
        for path in sorted(native.glob("*.jpg")):
            dx = rng.choice(DX)
            for copy in range(COPIES):
                name = f"{path.stem}_{copy}"
                shutil.copy(path, root / "HAM10000_images" / f"{name}.jpg")
                table.writerow([f"HAM_{path.stem}", name, dx, "histo", 50, "male", "back", "copies"])
    train = open_dataset(DataConfig(root=str(root), near_duplicates=False)).members["train"]
    for row in train:
        (folder / "classes" / "train" / row.dx).mkdir(parents=True, exist_ok=True)
        shutil.copy(row.path, folder / "classes" / "train" / row.dx)
    shutil.copytree(folder / "classes" / "train", folder / "classes" / "val")
    return root, folder / "classes", len(train)


def _our_epoch(tier: str, root: Path, runs: Path) -> Run:
    from lesion.config.load import load_config, shipped
    from lesion.engine.train import prepare
    from lesion.engine.trainer import make_trainer, quiet
    from lesion.progress import Silent

    words = [
        f"data.root={root}", "data.near_duplicates=false", f"preprocess.size={SIZE}", "model.pretrained=false",
        f"trainer.batch_size={BATCH}", "trainer.epochs=1",
    ]  # fmt: skip
    config = load_config([shipped("tier", tier)], words)
    material = prepare(config, Silent())

    def run() -> None:
        with quiet():
            trainer = make_trainer(config, runs, [], [], limit_val_batches=0, enable_checkpointing=False)
            trainer.fit(material.module, datamodule=material.data)

    return run


def _their_epoch(tier: str, classes: Path) -> Run:
    """The loop of most notebooks: ImageFolder, transforms.v2, two workers, a LightningModule of ten lines."""
    import lightning as L
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    from lesion.config.schema import ModelConfig
    from lesion.engine.trainer import quiet
    from lesion.models import build

    class Plain(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = build(ModelConfig(tier=tier), len(DX)).net.to(memory_format=torch.contiguous_format)

        def training_step(self, batch, _):
            return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), 1e-3)

    change = v2.Compose(
        [
            v2.ToImage(), v2.Resize(SIZE, antialias=True), v2.CenterCrop(SIZE), v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(), v2.ColorJitter(0.15, 0.15, 0.05), v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )  # fmt: skip
    dataset = ImageFolder(str(classes / "train"), change)
    module = Plain()

    def run() -> None:
        loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=2, drop_last=True)
        with quiet():
            L.Trainer(
                max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                enable_model_summary=False, accelerator="cpu",
            ).fit(module, loader)  # fmt: skip

    return run


def _yolo_epoch(classes: Path, folder: Path) -> Run:
    """yolov8n-cls, 1.44 M parameters, from random weights; only the epoch counts, not the start of the program."""
    from ultralytics import YOLO

    def run() -> float:
        marks: list[float] = []
        net = YOLO("yolov8n-cls.yaml")
        for event in ("on_train_epoch_start", "on_train_epoch_end"):
            net.add_callback(event, lambda _: marks.append(perf_counter()))
        net.train(
            data=str(classes), imgsz=SIZE, batch=BATCH, epochs=1, workers=2, device="cpu", project=str(folder),
            exist_ok=True, val=False, plots=False, save=False, verbose=False, pretrained=False,
        )  # fmt: skip
        return marks[1] - marks[0]

    return run
