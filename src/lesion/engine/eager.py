"""PyTorch's own answers, as an export is measured against: `python -m lesion.engine.eager memory|speed RUN`."""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from lesion.config.load import load_config
from lesion.images import decode_image
from lesion.inference.stopwatch import Pixels, report
from lesion.models import Classifier, build
from lesion.preprocess import PreprocessSpec
from lesion.run import Run
from lesion.taxonomy import Taxonomy


@dataclass(frozen=True, slots=True)
class Eager:
    """A run's network on the same pixels."""

    net: Classifier
    spec: PreprocessSpec

    @classmethod
    def load(cls, run: Run) -> "Eager":
        """The network with the weights of the run's best checkpoint, read with torch alone.

        What keeps damage and foreign checkpoints out belongs to the export; its imports would count as memory here.
        """
        config = load_config([run.config])
        config.model.pretrained, config.model.weights = False, None
        labels = Taxonomy.of(config.model.classes, config.data.malignant).labels
        net = build(config.model, len(labels))
        best = run.find_best()
        assert best is not None, "whoever measures has looked for it"
        content = torch.load(best, weights_only=True)
        prefix = "classifier."
        state = content["state_dict"]
        weights = {name.removeprefix(prefix): each for name, each in state.items() if name.startswith(prefix)}
        net.load_state_dict(weights)
        return cls(net.eval(), PreprocessSpec(**vars(config.preprocess)))

    def read(self, content: bytes) -> Pixels:
        """See `Engine`."""
        return self.spec.apply(decode_image(content)).copy()  # torch wants to be able to write

    def compute(self, pixels: Pixels) -> object:
        """See `Engine`."""
        with torch.inference_mode():
            return self.net(torch.from_numpy(pixels)).softmax(1).numpy()

    def answer(self, content: bytes) -> object:
        """See `Engine`."""
        return self.compute(self.read(content)[None])


if __name__ == "__main__":
    report(sys.argv[1], lambda: Eager.load(Run(Path(sys.argv[2]))))
