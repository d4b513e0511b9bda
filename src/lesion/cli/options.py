"""The options that several commands share, so that they read the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="A model file, a run folder, NAME@ALIAS of `lesion models`, or an address such as gs://bucket/model.onnx. "
        "Default: the newest finished run.",
        show_default=False,
    ),
]
Signer = Annotated[
    Path | None,
    typer.Option(metavar="PUB", help="An Ed25519 public key that must have signed the model.", show_default=False),
]
Runs = Annotated[Path, typer.Option(help="The folder of run folders, where the newest one is looked for.")]
Files = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", help="A YAML file over the defaults; may be repeated.", show_default=False),
]
Environment = Annotated[
    str | None,
    typer.Option("--env", help="development, staging or production: configs/env/.", show_default=False),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Configuration, for example trainer.epochs=5.", show_default=False),
]
