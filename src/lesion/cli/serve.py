"""`lesion serve`."""

from pathlib import Path
from typing import Annotated

import typer

from lesion.cli.options import Environment, Files, Json, Model, Overrides, Runs


def serve(
    overrides: Overrides = None,
    model: Model = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port. Default: 8000.", envvar="PORT")] = None,
    config: Files = None,
    env: Environment = None,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Answer POST /predict over HTTP.

    Example: lesion serve --port 8000, then curl -F file=@lesion.jpg localhost:8000/predict
    """
    from lesion.cli.reference import find_target
    from lesion.cli.render import show
    from lesion.cli.settings import merge
    from lesion.inference.predictor import Predictor
    from lesion.records import ServeReport
    from lesion.serve.app import create_app, listen, run_server, url_of

    merged = merge(overrides, config, env, {"serve.host": host, "serve.port": port})
    settings = merged.serve
    predictor = Predictor.load(find_target(model, runs, merged.tracking.store).path, settings.threads)
    with listen(settings.host, settings.port) as listener:
        show(ServeReport(url_of(listener), predictor.identity), as_json)
        run_server(create_app(predictor, int(settings.max_upload_mb * 2**20)), listener)
