"""What the tests of bulk prediction share: pictures, and the tiny model."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from lesion.inference.bulk.items import Item
from lesion.inference.predictor import Predictor, draw_test_image
from lesion.records import Prediction
from tests.conftest import GOLDEN


def paint(path: Path, number: int = 0) -> Path:
    """A picture whose colour is its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (number % 256, number // 256, 90)).save(path)
    return path


def names(items: Sequence[Item | None]) -> list[str]:
    return [item.name for item in items if item is not None]


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    return Predictor.load(GOLDEN / "tiny.onnx", threads=1)


@pytest.fixture(scope="session")
def template(predictor: Predictor) -> Prediction:
    return predictor.predict(draw_test_image(), "template")
