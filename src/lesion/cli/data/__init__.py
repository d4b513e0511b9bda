"""`lesion data`: one file per command."""

import typer

from lesion.cli.data import prepare, synth

app = typer.Typer(help="Make, check and split datasets.", no_args_is_help=True, rich_markup_mode=None)
app.command("synth")(synth.synth)
app.command("prepare")(prepare.prepare)
