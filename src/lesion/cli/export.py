"""`lesion export`."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from lesion.cli.options import Json, Runs, Signer
from lesion.errors import ConfigError

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]...",
        help="A run folder, several with --ensemble; or, for --verify, --benchmark and --sign, a model file. "
        "Default: the newest run.",
        show_default=False,
    ),
]
Quantize = Annotated[
    bool, typer.Option("--quantize", help="Search a faster int8 twin of the run's model.onnx and test what it loses.")
]
Ensemble = Annotated[
    bool, typer.Option("--ensemble", help="Join the runs into one file, in a run folder of its own in --runs.")
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Check a model file: seal, manifest, graph, self-test; say what it is.")
]
Benchmark = Annotated[
    bool, typer.Option("--benchmark", help="Measure a model file on this machine, beside PyTorch if it is there.")
]
Sign = Annotated[
    Path | None, typer.Option(metavar="KEY", help="Sign a model file with an Ed25519 key.", show_default=False)
]


def export(
    targets: Targets = None, quantize: Quantize = False, ensemble: Ensemble = False, verify: Verify = False,
    benchmark: Benchmark = False, sign: Sign = None, signer: Signer = None, runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:  # fmt: skip
    """Export a run's best checkpoint to one checked, self-contained model file.

    Example: lesion export --quantize

    Example: lesion export --ensemble runs/20261123-101500-resnet runs/20261123-114203-efficientnet
    """
    if sum((quantize, ensemble, verify, benchmark, sign is not None)) > 1:
        raise ConfigError(
            "--quantize, --ensemble, --verify, --benchmark and --sign each go alone", hint="one after the other"
        )
    named = targets or []
    if settings := [word for word in named if "=" in word and not os.path.exists(word)]:  # noqa: PTH110 - of any length
        raise ConfigError(
            f"{settings[0]}: an export takes no configuration, it keeps that of the run",
            hint=f"to train another run: lesion train {shlex.quote(settings[0])}",
        )
    if len(named) > 1 and not ensemble:
        raise ConfigError(f"{len(named)} runs, one expected", hint="add --ensemble to join them, or take one by one")
    if signer is not None and not verify:
        raise ConfigError("--signer goes with --verify", hint="to sign a file: lesion export --sign KEY MODEL")
    target = named[0] if named else None
    if ensemble:
        join(named, runs, as_json)
    elif benchmark:
        measure(target, runs, as_json)
    elif verify or sign is not None:
        check_file(target, runs, sign, signer, as_json)
    else:
        export_run(target, runs, quantize, as_json)


def export_run(target: str | None, runs: Path, quantize: bool, as_json: bool) -> None:
    """Write a run's model file, or its quantized twin."""
    from lesion.cli.bars import Bars
    from lesion.cli.exports import show
    from lesion.extras import need
    from lesion.run import find_run

    need("export", "torch", "torchvision", "lightning", "onnx", "onnxscript")
    from lesion.engine.export import export_run
    from lesion.engine.quantization.search import quantize_run

    chosen = find_run(None if target is None else Path(target), runs)
    show((quantize_run if quantize else export_run)(chosen, Bars()), as_json)


def join(targets: list[str], runs: Path, as_json: bool) -> None:
    """Write an ensemble's model file."""
    from lesion.cli.bars import Bars
    from lesion.cli.exports import show
    from lesion.extras import need
    from lesion.run import find_run

    need("export", "torch", "torchvision", "lightning", "onnx", "onnxscript")
    from lesion.engine.ensemble import export_ensemble

    show(export_ensemble([find_run(Path(each), runs) for each in targets], runs, Bars()), as_json)


def check_file(target: str | None, runs: Path, key: Path | None, signer: Path | None, as_json: bool) -> None:
    """Verify a model file, or sign it; neither needs torch."""
    from lesion.cli.exports import show
    from lesion.cli.reference import find_target
    from lesion.inference.verification import sign, verify
    from lesion.remote import is_remote
    from lesion.signature import Signer

    if key is not None and target is not None and is_remote(target):
        raise ConfigError(f"{target} is signed where it lies", hint="sign a file of this machine, then upload it")
    path = find_target(target, runs).path
    if key is not None:
        show(sign(path, key), as_json)
    else:
        show(verify(path, Signer.read(signer) if signer else None), as_json)


def measure(target: str | None, runs: Path, as_json: bool) -> None:
    """Print how fast a model file is here."""
    from lesion.cli.bars import Bars
    from lesion.cli.exports import show
    from lesion.cli.reference import find_target
    from lesion.engine.benchmark import benchmark

    found = find_target(target, runs)
    show(benchmark(found.path, found.run, Bars()), as_json)
