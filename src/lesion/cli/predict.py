"""`lesion predict`."""

import os
import shlex
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lesion.cli.options import Json, Model, Runs, Signer
from lesion.cli.runs.opening import Location
from lesion.cli.settings import is_model
from lesion.errors import ConfigError, DataError
from lesion.escape import to_terminal

if TYPE_CHECKING:
    from lesion.inference.bulk.items import Answer, Item
    from lesion.inference.bulk.job import Answering, Job
    from lesion.inference.bulk.outputs import Output
    from lesion.inference.predictor import Predictor
    from lesion.records import Prediction

Images = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[IMAGE]...",
        help="JPEG or PNG files, folders, quoted patterns, CSV tables with a column of paths, addresses such as "
        "gs://bucket/folder, or - for stdin: paths, one a line, or the bytes of one image.",
        show_default=False,
    ),
]
OutputFile = Annotated[
    str | None, typer.Option("--output", "-o", help="Write the answers to this file or address.", show_default=False)
]
Format = Annotated[
    str | None,
    typer.Option("--format", help="json, jsonl, csv or parquet. Default: by the output's suffix.", show_default=False),
]
Column = Annotated[
    str | None,
    typer.Option(
        help="The table's column of paths. Default: path, file, image, image_path or filename.", show_default=False
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an unfinished output, or add to it.")]
Watch = Annotated[
    str | None, typer.Option(help="Answer the images in this folder and those that appear.", show_default=False)
]
Threads = Annotated[
    int, typer.Option(min=0, help="Images in work at once; 0: as many as processors. On a cluster: workers at most.")
]
Batch = Annotated[int, typer.Option(min=1, help="Images that go through the model together.")]
Cluster = Annotated[
    str | None,
    typer.Option(help="Use a Ray cluster: its address, auto to find it, local to start one.", show_default=False),
]
Tta = Annotated[bool, typer.Option("--tta", help="Answer by the mean over eight views.")]
NO_IMAGE = "Missing argument: no image is named"
HINTS = {
    NO_IMAGE: "lesion predict IMAGE, or lesion predict FOLDER --output answers.csv",
    "--resume goes with --output": "lesion predict IMAGE --output answers.csv --resume",
    "parquet goes with --output": "lesion predict IMAGE --output answers.parquet",
    "--watch never ends: answers as jsonl or csv expected": "lesion predict --watch FOLDER --format jsonl",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for."""

    words: list[str]
    output: str | None
    form: str | None
    """None: lines for a person."""
    column: str | None
    resume: bool
    watch: str | None
    threads: int
    batch: int
    cluster: str | None
    tta: bool
    as_json: bool
    signer: Path | None


def predict(
    images: Images = None,
    model: Model = None,
    runs: Runs = Path("runs"),
    store: Location = None,
    output: OutputFile = None,
    form: Format = None,
    column: Column = None,
    resume: Resume = False,
    watch: Watch = None,
    threads: Threads = 0,
    batch: Batch = 4,
    cluster: Cluster = None,
    tta: Tta = False,
    signer: Signer = None,
    as_json: Json = False,
) -> None:
    """Classify images as malignant or benign.

    Example: lesion predict lesion.jpg --json
    """
    from lesion.cli.reference import find_target

    form = form or ("json" if as_json and output is None else None)
    if form != "json" and (form, output) != (None, None):
        from lesion.inference.bulk.formats import choose_format

        form = choose_format(output, form)
    words = list(images or ())
    request = Request(words, output, form, column, resume, watch, threads, batch, cluster, tta, as_json, signer)
    _check(request)
    (_predict_one if _is_single(request) else _predict_many)(request, find_target(model, runs, store).path)


def _check(request: Request) -> None:
    """Raise ConfigError for what does not go together."""
    watched, lines = request.watch is not None, request.form in (None, "jsonl", "csv")
    printed = request.output is None
    wrong = {
        NO_IMAGE: not watched and not request.words,
        "--watch names the folder: no other image expected": watched and bool(request.words),
        "--watch goes without --cluster": watched and request.cluster is not None,
        "--watch never ends: answers as jsonl or csv expected": watched and not lines,
        "--column goes with a table": watched and request.column is not None,
        "--resume goes with --output": request.resume and printed,
        "parquet goes with --output": request.form == "parquet" and printed,
        f"--json prints json, not {request.form}": printed and request.as_json and request.form != "json",
        "stdin is closed, - cannot be read": "-" in request.words and sys.stdin is None,
        "stdin can be read once": request.words.count("-") > 1,
    }
    for what, is_so in wrong.items():
        if is_so:
            raise ConfigError(what, hint=HINTS.get(what, "`lesion predict --help` shows what goes together"))
    if models := [word for word in request.words if is_model(word)]:
        others = [shlex.quote(word) for word in request.words if word not in models]
        raise ConfigError(
            f"{models[0]} is a model, an image expected",
            hint=" ".join(["lesion predict", *(others or ["IMAGE"]), "--model", shlex.quote(models[0])]),
        )


def _is_single(request: Request) -> bool:
    """Whether one image is to be answered on stdout."""
    more = (request.output, request.column, request.watch, request.cluster)
    if len(request.words) != 1 or more != (None,) * 4 or request.form not in (None, "json"):
        return False
    if request.words[0].lower().endswith((".jpg", ".jpeg", ".png")) and os.path.isfile(request.words[0]):  # noqa: PTH113
        return True  # without loading what knows of all else
    from lesion.inference.bulk.sources import is_single

    return is_single(request.words)


def _predict_one(request: Request, model: Path) -> None:
    from lesion.cli.render import show_predictions
    from lesion.inference.bulk.items import to_item
    from lesion.inference.predictor import Predictor

    word = request.words[0]
    predictor = Predictor.load(model, request.threads, request.tta, signer=request.signer)
    show_predictions([predictor.predict(Path(word), to_item(word).name)], predictor, request.form == "json")


def _predict_many(request: Request, model: Path) -> None:
    from lesion.cli.bars import Bars
    from lesion.inference.bulk.job import Job
    from lesion.inference.bulk.outputs import Earlier, FileOutput
    from lesion.inference.bulk.sources import check_words
    from lesion.inference.bulk.watch import Watcher
    from lesion.inference.predictor import Predictor

    check_words(request.words, request.column)
    # One thread: as many images are in work at once as there are processors.
    predictor = Predictor.load(model, 1, request.tta, signer=request.signer)
    shown = request.watch is None and "-" not in request.words and sys.stderr.isatty() and request.form is not None
    with closing(_open(request, predictor)) as output:
        earlier = output.earlier if isinstance(output, FileOutput) else Earlier()
        watcher = Watcher(request.watch) if request.watch else None
        again = watcher.try_again if watcher else None
        job = Job(_choose_answering(request, predictor, model), output, earlier, Bars(), again)
        # Ray has its say on stdout, which is for results.
        with redirect_stdout(sys.stderr) if request.cluster else nullcontext():
            items = watcher.find() if watcher else _find(request)
            job.run(items, sum(1 for _ in _find(request)) if shown else None)
    _end(request, predictor, job)


def _find(request: Request) -> "Iterator[Item | None]":
    from lesion.inference.bulk.sources import find_items

    stdin = None if sys.stdin is None else sys.stdin.buffer  # None: closed
    return find_items(request.words, request.column, stdin)


def _open(request: Request, predictor: "Predictor") -> "Output":
    from lesion.inference.bulk.outputs import FileOutput, StreamOutput
    from lesion.inference.predictor import draw_test_image

    if request.form is None:
        return Table(predictor, at_once=request.watch is not None)
    template = predictor.predict(draw_test_image())
    if request.output is None:
        return StreamOutput(sys.stdout, request.form, template)
    return FileOutput(request.output, request.form, template, request.resume)


def _choose_answering(request: Request, predictor: "Predictor", model: Path) -> "Answering":
    def on_this_machine(items: "Iterable[Item | None]") -> "Generator[Answer, None, None]":
        from lesion.inference.bulk.pipeline import answer
        from lesion.inference.threads import usable_cpus

        return answer(items, predictor, request.threads or usable_cpus(), request.batch)

    if request.cluster is None:
        return on_this_machine
    from lesion.files import sha256
    from lesion.inference.cluster import Cluster

    content = model.read_bytes()
    if sha256(content) != predictor.artifact.digest:  # the workers trust what they are handed
        raise DataError(f"{model} changed while it was being read", hint="try again")
    return Cluster.join(request.cluster, content, request.threads, request.batch, request.tta).answer


def _end(request: Request, predictor: "Predictor", job: "Job") -> None:
    from lesion.records import to_json

    report = job.report(request.output, predictor.identity)
    if request.output is not None and (job.stopped is None or request.watch is not None):
        earlier = f", {report.earlier} were there" if report.earlier else ""
        rate = f"{report.seconds:.1f} s, {report.images_per_second:.1f} images/s"
        done = f"{report.output}: {report.images} images in {rate}{earlier}"
        print(to_json(report) if request.as_json else to_terminal(done))
    if job.stopped is not None and request.watch is None:
        job.stopped.hint = f"lesion predict … --output {request.output} --resume" if request.output else ""
        raise job.stopped
    if report.unreadable:
        raise DataError(
            f"{report.unreadable} of {report.images + report.earlier} images could not be read",
            hint="their answers have an `error`" if request.form else "",
        )


class Table:
    """Answers as lines on stdout, for a person."""

    def __init__(self, predictor: "Predictor", at_once: bool) -> None:
        self._predictor = predictor
        self._stdout = sys.stdout
        self._most = 1 if at_once else 32  # lines whose columns are aligned
        self._waiting: list[Prediction] = []

    def write(self, answer: "Answer") -> None:
        """Print it soon; what has no prediction was logged."""
        from lesion.records import Prediction

        if isinstance(answer, Prediction):
            self._waiting.append(answer)
        if len(self._waiting) >= self._most:
            self._print()

    def finish(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Print what waits, and say whose answers they are."""
        from lesion.cli.render import say_model

        self._print()
        say_model(self._predictor)

    def _print(self) -> None:
        from lesion.cli.render import print_predictions

        with redirect_stdout(self._stdout):
            print_predictions(self._waiting)
        self._waiting = []
