"""`lesion runs compare`."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from lesion.cli.options import Environment, Files, Json
from lesion.cli.runs.opening import Folder, Location

Words = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Names, beginnings of names, run folders, or 'latest'.")
]


def compare(
    names: Words,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with curves to this file.", show_default=False)
    ] = None,
    all_parameters: Annotated[
        bool, typer.Option("--all-parameters", help="Also the parameters that are the same in all.")
    ] = False,
    runs: Folder = None,
    store: Location = None,
    config: Files = None,
    env: Environment = None,
    as_json: Json = False,
) -> None:
    """Compare runs: their figures, the parameters that differ, their curves on one page.

    Example: lesion runs compare latest 20261123-101500-baseline --html runs.html
    """
    from lesion.cli.runs.opening import open_store
    from lesion.cli.runs.tables import print_comparison
    from lesion.files import ensure_folder, write_atomic
    from lesion.tracking.page import render_page
    from lesion.tracking.query import find_run, read_detail

    if html:
        ensure_folder(html.parent)
    with open_store(runs, store, config, env) as opened:
        found = {entry.id: entry for entry in (find_run(opened, name) for name in names)}
        details = [read_detail(opened, entry) for entry in found.values()]
    if html:  # before the table: a reader of it may close the pipe early
        write_atomic(html, render_page(details, all_parameters))
        logging.getLogger("lesion.cli").info("written to %s", html)
    print_comparison(details, all_parameters, as_json)
