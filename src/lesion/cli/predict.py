"""`lesion predict`."""

from pathlib import Path
from typing import Annotated

import typer

from lesion.cli.options import Json, Model, Runs


def predict(
    images: Annotated[list[Path], typer.Argument(help="JPEG or PNG files.", show_default=False)],
    model: Model = None,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Classify images as malignant or benign.

    Example: lesion predict lesion.jpg --json
    """
    from lesion.cli.render import show_predictions
    from lesion.inference.predictor import Predictor
    from lesion.run import find_model

    predictor = Predictor.load(find_model(model, runs))
    show_predictions(list(predictor.predict_many(images)), predictor, as_json)
