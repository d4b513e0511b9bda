"""`lesion runs`: one file per command."""

import typer

from lesion.cli.runs import best, compare, list_, show

app = typer.Typer(help="Look at runs: list, show, compare, find the best.", no_args_is_help=True, rich_markup_mode=None)
app.command("list")(list_.list_)
app.command("show")(show.show)
app.command("compare")(compare.compare)
app.command("best")(best.best)
