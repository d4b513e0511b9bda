"""BentoML with adaptive batching: bentoml serve bento:Service."""

import bentoml
import numpy as np
from model import Model
from PIL.Image import Image


@bentoml.service(traffic={"timeout": 60})
class Service:
    """One worker, as by default."""

    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api(batchable=True, max_batch_size=8)
    def predict(self, file: list[Image]) -> list[dict]:
        """Classify images."""
        pixels = []
        for image in file:
            image.fp.seek(0)
            pixels.append(self.model.decode(image.fp))
        return self.model.run(np.stack(pixels))
