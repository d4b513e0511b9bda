"""What a model file needs on this machine: `python -m lesion.inference.benchmark memory|speed MODEL` prints JSON.

In a process of its own: a figure of memory is only true of a process that did nothing else.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from lesion.inference.predictor import Predictor
from lesion.inference.stopwatch import Pixels, report


@dataclass(frozen=True, slots=True)
class Exported:
    """A model file, as `predict` and `serve` use it."""

    predictor: Predictor

    def read(self, content: bytes) -> Pixels:
        """See `Engine`."""
        return self.predictor.read(content)

    def compute(self, pixels: Pixels) -> object:
        """See `Engine`."""
        return self.predictor.run(pixels)

    def answer(self, content: bytes) -> object:
        """See `Engine`."""
        return self.predictor.predict(content)


if __name__ == "__main__":
    report(sys.argv[1], lambda: Exported(Predictor.load(Path(sys.argv[2]))))
