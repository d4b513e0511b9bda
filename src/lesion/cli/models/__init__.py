"""`lesion models`: one file per command."""

import typer

from lesion.cli.models import list_, promote, register, show

app = typer.Typer(
    help="Name models, number their versions, and say which is in production.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("list")(list_.list_)
app.command("show")(show.show)
app.command("register")(register.register)
app.command("promote")(promote.promote)
