"""`lesion data download`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesion.cli.options import Json
from lesion.escape import to_terminal

if TYPE_CHECKING:
    from lesion.data.publishers import Licence


def download(
    root: Annotated[Path, typer.Argument(help="The dataset's folder; made if missing.")],
    dataset: Annotated[str, typer.Option(help="ham10000 or isic2018-test.")] = "ham10000",
    source: Annotated[str, typer.Option(help="auto, dataverse, isic or kaggle.")] = "auto",
    subset: Annotated[
        int | None, typer.Option(min=21, help="Only so many images, one by one.", show_default=False)
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the dataset's licence: CC BY-NC 4.0.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be fetched, and stop.")] = False,
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Keep archives once extracted.")] = False,
    token: Annotated[
        Path | None, typer.Option(help="A file with a Kaggle token. Default: ~/.kaggle/.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Download HAM10000 or the ISIC 2018 test set; run again, it goes on where it stopped.

    Example: lesion data download data/ham10000 --accept-licence
    """
    from lesion.cli.bars import Bars
    from lesion.cli.render import show
    from lesion.data import download as engine
    from lesion.data.publishers import find_source

    wish = engine.Wish(source, subset, keep_archives, token)
    if dry_run:
        show(engine.plan(find_source(dataset), root, wish), as_json)
        return
    show(engine.download(find_source(dataset), root, wish, lambda it: _ask(it, accept_licence), None, Bars()), as_json)


def _ask(licence: "Licence", accepted: bool) -> bool:
    """Show the licence, then take the flag's answer or a person's; nobody to ask is a no."""
    for line in (f"Licence: {licence.name}, {licence.url}", licence.terms, "Cite:", *licence.attribution):
        typer.echo(to_terminal(line), err=True)
    return accepted or (sys.stdin.isatty() and sys.stderr.isatty() and typer.confirm("Accept?", err=True))
