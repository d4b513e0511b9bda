"""`lesion serve`."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesion.cli.options import Environment, Files, Json, Model, Overrides, Runs

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

    from lesion.config.serving import ServeConfig
    from lesion.serve.sources import Source
    from lesion.signature import Signer


def serve(
    overrides: Overrides = None,
    model: Model = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port. Default: 8000.", envvar="PORT")] = None,
    canary: Annotated[
        str | None,
        typer.Option(metavar="MODEL=SHARE", help="Another model that answers this share, like ham@staging=0.1."),
    ] = None,
    shadow: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Another model that is asked, too, and never answers.")
    ] = None,
    new_token: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Make a token, print its line for the file of serve.tokens, and end."),
    ] = None,
    config: Files = None,
    env: Environment = None,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Answer POST /v1/predict over HTTP.

    Example: lesion serve --port 8000, then curl -F file=@lesion.jpg localhost:8000/v1/predict
    """
    from lesion.cli.settings import merge
    from lesion.serve.signals import hang_ups

    if new_token is not None:
        print_token(new_token)
        return
    with hang_ups(let_in=False):  # until there is a handler
        flags = {"serve.host": host, "serve.port": port, "serve.canary": canary, "serve.shadow": shadow}
        merged = merge(overrides, config, env, flags, command="serve")
        start(merged.serve, partial(build, model=model, runs=runs, store=merged.tracking.store), as_json)


def start(settings: "ServeConfig", make: "Callable[[ServeConfig], FastAPI]", as_json: bool) -> None:
    """Listen and serve until a signal, in this process or in several."""
    from lesion.cli.render import show
    from lesion.records import ServeReport
    from lesion.serve.logs import set_up_logs
    from lesion.serve.process import listen, run_server, url_of
    from lesion.serve.settings import check_settings

    check_settings(settings)
    set_up_logs(settings.log)
    app = make(settings) if settings.workers == 1 else None
    with listen(settings.host, settings.port) as listener:
        url = url_of(listener, bool(settings.certificate))
        if app is not None:
            show(ServeReport(url, app.state.service.slot.pick().identity), as_json)
            run_server(app, listener, settings)
        else:
            from lesion.serve.workers import run_workers

            run_workers(make, listener, settings, lambda identity: show(ServeReport(url, identity), as_json))


def build(settings: "ServeConfig", model: str | None, runs: Path, store: str | None) -> "FastAPI":
    """The application with its models, in the process that is to serve them."""
    from lesion.serve.app import create_app
    from lesion.serve.reload import open_models
    from lesion.signature import Signer

    signer = Signer.read(settings.signer) if settings.signer else None
    slot, reloader = open_models(
        settings, find_source(model, runs, store, signer), lambda word: find_source(word, runs, store, signer)
    )
    return create_app(slot, settings, reloader)


def find_source(word: str | None, runs: Path, store: str | None, signer: "Signer | None" = None) -> "Source":
    """Where the model that is meant comes from; an alias is looked up again later, the newest run is not."""
    from lesion.cli.reference import find_target, is_reference
    from lesion.remote import is_remote
    from lesion.serve.sources import DepotSource, FileSource, RegistrySource

    if word is not None and is_remote(word):
        return DepotSource(word, signer)
    if word is not None and is_reference(word):
        return RegistrySource(word, store, runs, signer)
    return FileSource(find_target(word, runs, store).path, signer)


def print_token(name: str) -> None:
    """The line for the file goes to stdout, so that >> can append it; the token itself, shown once, to stderr."""
    from lesion.serve.tokens import make_token

    token, line = make_token(name)
    print(line)
    print(f"token: {token}\nIt is shown once: keep it where {name} reads it.", file=sys.stderr)
