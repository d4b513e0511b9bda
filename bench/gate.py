"""What the gate of a model file lets through: images that are no lesions, or that nobody could judge."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.strangers import BUNDLED, CHOSEN_ON, collect

COUNT = 200  # images of each kind


def measure(ham10000: Path, native: Path | None, model: Path, folder: Path) -> Iterator[str]:
    """Lines of a Markdown table: kinds of images, and how many of them are accepted.

    By all of the file's own limits, and by the outlier measure alone where it accepts 95 % of the test lesions.
    `folder` takes the split if the model's run has none.
    """
    from lesion.inference.predictor import Predictor

    predictor = Predictor.load(model)
    dataset = _open_dataset(ham10000, model, folder)
    dataset.require_split(predictor.manifest.provenance.get("split"), model)
    paths = [row.path for row in dataset.members["test"]]
    lesions = _check(predictor, [Image.open(path).convert("RGB") for path in paths])
    limit = float(np.quantile(lesions[:, 0], 0.95))

    def describe(kind: str, when: str, measures: Any) -> str:
        accepted, alone = _accept(measures, predictor.manifest), (measures[:, 0] <= limit).mean()
        return f"| {kind} | {when} | {len(measures)} | {accepted:.1%} | {alone:.1%} |"

    yield "| images | looked at | number | accepted by the file | accepted with 95 % of the test lesions |"
    yield "|---|---|---|---|---|"
    yield describe("test lesions", "", lesions)
    if native:
        whole = [Image.open(path).convert("RGB") for path in sorted(native.glob("*.jpg"))]
        yield describe("lesions at 600×450 pixels", "while choosing", _check(predictor, whole))
    shares = []
    for kind, images in collect(paths, COUNT):
        when = "to choose" if kind in CHOSEN_ON else "while choosing"
        measures = _check(predictor, images)
        shares.append((_accept(measures, predictor.manifest), (measures[:, 0] <= limit).mean()))
        yield describe(kind, when, measures)
    yield f"| most of any kind but lesions | | | {max(a for a, _ in shares):.1%} | {max(b for _, b in shares):.1%} |"
    drawn = len(shares)
    if missing := [kind for kind in BUNDLED if not _found(kind)]:
        yield f"\n{drawn} kinds; without {', '.join(missing)}: install scikit-image and matplotlib"


def _found(kind: str) -> bool:
    from bench.strangers import find_bundled

    return bool(find_bundled(BUNDLED[kind]))


def _open_dataset(ham10000: Path, model: Path, folder: Path) -> Any:
    from lesion.config.load import load_config
    from lesion.data.split import open_dataset
    from lesion.run import run_of

    run = run_of(model)
    words = [] if run else [f"data.processed={folder / 'processed'}"]
    return open_dataset(load_config([run.config] if run else [], [f"data.root={ham10000}", *words]).data)


def _check(predictor: Any, images: list[Image.Image]) -> Any:
    """The measures of images, (n, k)."""
    from lesion.engine.parity import run_batches

    return run_batches(predictor, np.stack([predictor.manifest.preprocess.apply(image) for image in images])).checks


def _accept(measures: Any, manifest: Any) -> float:
    from lesion.inference.decide import find_flags

    return float(np.mean([not flags for flags in find_flags(measures, manifest)]))
