"""`lesion data`: one file per command."""

import typer

from lesion.cli.data import audit, download, import_, prepare, stats, synth

app = typer.Typer(help="Make, check and split datasets.", no_args_is_help=True, rich_markup_mode=None)
app.command("download")(download.download)
app.command("synth")(synth.synth)
app.command("prepare")(prepare.prepare)
app.command("import")(import_.import_)
app.command("stats")(stats.stats)
app.command("audit")(audit.audit)
