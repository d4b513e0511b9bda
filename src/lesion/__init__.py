"""lesion: dermatoscopic images to a served malignant/benign classifier. Research software, not a medical device."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from lesion.inference.predictor import Predictor

# From 1.29 on, ONNX Runtime tells its maker about models and machines unless this is set before its first import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(model: "str | Path", **options: Any) -> "Predictor":
    """Load an exported model, from a file or an address such as gs://bucket/model.onnx; needs no torch.

    `options` go to `lesion.inference.predictor.Predictor.load`. Raises ArtifactError for a file that is not an
    intact lesion model, NotFoundError for a missing one, RemoteError when its store does not answer.
    """
    if isinstance(model, str) and "://" in model:
        from lesion.depot import Depot

        model = Depot().fetch(model)
    # Lazy, so that `import lesion` stays free of onnxruntime.
    from lesion.inference.predictor import Predictor

    return Predictor.load(model, **options)
