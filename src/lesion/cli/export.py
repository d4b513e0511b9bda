"""`lesion export`."""

from pathlib import Path
from typing import Annotated

import typer

from lesion.cli.options import Json, Runs


def export(
    run: Annotated[
        Path | None,
        typer.Argument(help="A run folder. Default: the newest finished run.", show_default=False),
    ] = None,
    quantize: Annotated[
        bool, typer.Option("--quantize", help="Search a faster int8 twin of the run's model.onnx that answers as well.")
    ] = False,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Export a run's best checkpoint to one checked, self-contained model file.

    Example: lesion export --quantize
    """
    from lesion.cli.bars import Bars
    from lesion.cli.render import show
    from lesion.extras import need
    from lesion.run import find_run

    need("export", "torch", "torchvision", "lightning", "onnx", "onnxscript")
    from lesion.engine.export import export_run
    from lesion.engine.quantization.search import quantize_run

    chosen = find_run(run, runs)
    show((quantize_run if quantize else export_run)(chosen, Bars()), as_json)
