"""`lesion predict`."""

from pathlib import Path
from typing import Annotated

import typer

from lesion.cli.options import Json, Model, Runs
from lesion.cli.runs.opening import Location


def predict(
    images: Annotated[list[Path], typer.Argument(help="JPEG or PNG files.", show_default=False)],
    model: Model = None,
    runs: Runs = Path("runs"),
    store: Location = None,
    as_json: Json = False,
) -> None:
    """Classify images as malignant or benign.

    Example: lesion predict lesion.jpg --json
    """
    from lesion.cli.reference import find_target
    from lesion.cli.render import show_predictions
    from lesion.inference.predictor import Predictor

    predictor = Predictor.load(find_target(model, runs, store).path)
    show_predictions(list(predictor.predict_many(images)), predictor, as_json)
