"""Assembles the commands; the one place where an error becomes an exit code."""

import io
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from lesion import __version__
from lesion.cli import data, eval, export, models, predict, runs, serve, train
from lesion.errors import ConfigError, LesionError, OutputError
from lesion.escape import to_terminal
from lesion.files import FULL, expand_home
from lesion.records import NOTICE

EPILOG = (
    "Exit codes: 0 done, 1 a check failed, 2 wrong usage or configuration, 3 an extra is not installed, 65 bad data, "
    "image or model file, 66 not found, 69 a remote did not answer, 70 the loss became NaN, 71 out of memory, "
    "74 cannot write, 130 interrupted, 143 terminated."
)

# No rich help, no pretty tracebacks, no completion: each of them costs more at start-up than the rest together.
app = typer.Typer(
    name="lesion",
    help=f"Classify dermatoscopic images: from HAM10000 to a served malignant/benign model.\n\n{NOTICE}",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.add_typer(runs.app, name="runs")
app.add_typer(models.app, name="models")
app.command("train")(train.train)
app.command("eval")(eval.evaluate)
app.command("export")(export.export)
app.command("predict")(predict.predict)
app.command("serve")(serve.serve)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"lesion {__version__}")
        raise typer.Exit


@app.callback()
def set_up(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Send the log of this process to stderr; stdout is for results."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # In a file that both share, lines stay in their order. A character that stdout's encoding lacks is escaped.
        encoding = "utf-8" if sys.platform == "win32" else None  # there a pipe has the one of the system's language
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace", line_buffering=True)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TerminalFormatter("%(message)s"))
    log = logging.getLogger("lesion")
    log.handlers = [handler]
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    log.propagate = False


class TerminalFormatter(logging.Formatter):
    """Log records as one line each: their arguments may be names from strangers' files."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging calls
        """Return the line without line ends and control sequences; a traceback follows it unchanged."""
        return to_terminal(super().formatMessage(record))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`; returns the exit code of a LesionError, else leaves through SystemExit."""
    _replace_closed_streams()
    try:
        app([_go_home(word) for word in (sys.argv[1:] if argv is None else argv)], prog_name="lesion")
    except LesionError as error:
        return _report(error)
    except OSError as error:
        if "No usable temporary" in str(error):  # of tempfile, whoever asked for a file: us or a library
            message = "no folder for temporary files can be written"
            return _report(OutputError(message, hint="name one: TMPDIR=FOLDER lesion …"))
        if not _drop_unwritable_stdout() and error.errno not in FULL:
            raise
        where = f" {error.filename}" if error.filename else ""
        return _report(OutputError(f"cannot write{where}: {error.strerror or error}", hint="free some space"))
    return 0


def _go_home(word: str) -> str:
    """Replace a leading `~` of a path or of an option's value, where no shell has: in --output=~/x, or in a list."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    try:
        return f"{option}{equals}{expand_home(value)}" if value.startswith(("~/", "~\\")) or value == "~" else word
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _report(error: LesionError) -> int:
    """Print `error` to stderr; returns its exit code, also when stderr cannot be written."""
    first, *more = map(to_terminal, error.lines)
    lines = [f"error: {first}", *more, *([f"hint: {to_terminal(error.hint)}"] if error.hint else [])]
    with suppress(OSError):
        print("\n".join(lines), file=sys.stderr)
    return error.exit_code


def _replace_closed_streams() -> None:
    """Open the null device in place of each standard stream that is closed.

    Without that, the next file that is opened gets the stream's number, and receives what a library prints.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - until the process ends


def _drop_unwritable_stdout() -> bool:
    """Whether stdout cannot be written; its buffer then goes to the null device, so that the exit code is ours."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
