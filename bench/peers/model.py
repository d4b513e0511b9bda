"""What all peers share: the model file, its preprocessing, its answer; nothing of lesion, only what its file says."""

import json
import os

import numpy as np
import onnxruntime
from PIL import Image


class Model:
    """An ONNX Runtime session with its defaults."""

    def __init__(self) -> None:
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], providers=["CPUExecutionProvider"])
        manifest = json.loads(self.session.get_modelmeta().custom_metadata_map["lesion.manifest"])
        self.size = manifest["preprocess"]["size"]
        self.labels, self.malignant = manifest["taxonomy"]["labels"], manifest["taxonomy"]["malignant"]
        self.temperature, self.threshold = manifest["temperature"], manifest["threshold"]

    def decode(self, file) -> np.ndarray:
        """The pixels of an image file."""
        image = Image.open(file).convert("RGB")
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        square = (left, top, left + side, top + side)
        return np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=square))

    def run(self, pixels: np.ndarray) -> list[dict]:
        """The answers to pixels (n, size, size, 3)."""
        (logits,) = self.session.run(["logits"], {"pixels": pixels})
        z = np.exp((logits - logits.max(axis=1, keepdims=True)) / self.temperature)
        return [self.describe(row) for row in z / z.sum(axis=1, keepdims=True)]

    def describe(self, row: np.ndarray) -> dict:
        """The answer for one row of probabilities."""
        by_label = dict(zip(self.labels, map(float, row), strict=True))
        malignant = sum(by_label[label] for label in self.malignant)
        prediction = "malignant" if malignant >= self.threshold else "benign"
        return {
            "prediction": prediction,
            "class_probabilities": {"benign": 1 - malignant, "malignant": malignant},
            "diagnosis_probabilities": by_label,
        }
