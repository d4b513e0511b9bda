"""`lesion serve`."""

from pathlib import Path
from typing import Annotated

import typer

from lesion.cli.options import Environment, Files, Model, Overrides, Runs


def serve(
    overrides: Overrides = None,
    model: Model = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port. Default: 8000.", envvar="PORT")] = None,
    config: Files = None,
    env: Environment = None,
    runs: Runs = Path("runs"),
) -> None:
    """Answer POST /predict over HTTP.

    Example: lesion serve --port 8000, then curl -F file=@lesion.jpg localhost:8000/predict
    """
    from lesion.cli.settings import merge
    from lesion.inference.predictor import Predictor
    from lesion.inference.server import create_app, run_server
    from lesion.run import find_model

    settings = merge(overrides, config, env=env, serve__host=host, serve__port=port).serve
    predictor = Predictor.load(find_model(model, runs), settings.threads)
    run_server(create_app(predictor, int(settings.max_upload_mb * 2**20)), settings.host, settings.port)
