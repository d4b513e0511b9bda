"""`lesion data`: make, check and split datasets."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lesion.cli.options import Environment, Files, Json, Overrides

app = typer.Typer(help="Make, check and split datasets.", no_args_is_help=True, rich_markup_mode=None)


@app.command("synth")
def synth(
    root: Annotated[Path, typer.Argument(help="A folder to make; one that holds a dataset is refused.")],
    lesions: Annotated[int, typer.Option(min=21, help="How many lesions; about 1.5 images each.")] = 200,
    width: Annotated[int, typer.Option(min=32, max=4096, help="Width of the images, in pixels.")] = 600,
    height: Annotated[int, typer.Option(min=32, max=4096, help="Height of the images, in pixels.")] = 450,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same images.")] = 0,
    as_json: Json = False,
) -> None:
    """Draw a small synthetic dataset in HAM10000's layout, free of any licence.

    Example: lesion data synth data/synthetic --lesions 200
    """
    from lesion.cli.render import Bars, show
    from lesion.data.synth import SynthSpec, synthesize
    from lesion.files import ensure_folder
    from lesion.progress import track
    from lesion.records import SynthReport

    ensure_folder(root)
    rows = synthesize(root, SynthSpec(lesions, width, height, seed), partial(track, Bars()))
    show(SynthReport(str(root), len(rows), lesions, seed), as_json)


@app.command("prepare")
def prepare(overrides: Overrides = None, config: Files = None, env: Environment = None, as_json: Json = False) -> None:
    """Check a dataset and split it by lesion into train, val and test; a split that exists is read.

    Example: lesion data prepare data.root=data/ham10000
    """
    from lesion.cli.render import show
    from lesion.cli.settings import merge
    from lesion.data.split import open_dataset

    show(open_dataset(merge(overrides, config, env=env).data).report(), as_json)
