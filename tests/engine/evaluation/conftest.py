"""Model files without a training, and answers made up."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from lesion.artifact import Artifact
from lesion.config.load import load_config
from lesion.config.schema import Config
from lesion.data.index import Row
from lesion.data.split import open_dataset
from lesion.engine.evaluation.answers import SplitAnswers, judge
from lesion.inference.predictor import Answers, Predictor
from tests.conftest import GOLDEN


def write_model(path: Path, root: Path, source: str = "tiny.onnx", **changes: object) -> Path:
    """The tiny model as if it had been trained on the split of the data at `root`."""
    tiny = Artifact.read(GOLDEN / source)
    split = open_dataset(load_config(overrides=[f"data.root={root}"]).data).fingerprint
    path.write_bytes(Artifact.pack(tiny.graph, tiny.with_provenance(split=split, **changes))[1])
    return path


def answer(
    malignant: Sequence[float], truth: Sequence[bool], lesions: Sequence[str] | None = None, **row: Sequence[str]
) -> SplitAnswers:
    """What the tiny model of two classes would say with these probabilities; malignant from 0.4 on.

    By its sets, from 0.35 to 0.45 it is not certain.
    """
    predictor = Predictor(Artifact.read(GOLDEN / "tiny2.onnx"))
    p: npt.NDArray[np.float64] = np.asarray(malignant, float)
    with np.errstate(divide="ignore"):
        logits = np.stack([np.zeros(len(p)), np.log(p / (1 - p)) * predictor.manifest.temperature], axis=1)
    names = lesions or [f"L{i}" for i in range(len(p))]
    more = [dict(zip(row, values, strict=True)) for values in zip(*row.values(), strict=True)] or [{}] * len(p)
    rows = [Row(f"i{i}", names[i], "mel" if bad else "nv", Path(f"i{i}.jpg"), **more[i]) for i, bad in enumerate(truth)]
    return judge(predictor, rows, [Answers(logits, np.full((len(p), 1), 0.5), None)], 1.0)


@pytest.fixture
def config(ham_root: Path) -> Config:
    return load_config(overrides=[f"data.root={ham_root}", "eval.stress_images=10"])


@pytest.fixture
def model(ham_root: Path, tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx", ham_root)
