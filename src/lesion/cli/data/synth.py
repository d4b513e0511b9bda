"""`lesion data synth`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lesion.cli.options import Json


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
    from lesion.cli.bars import Bars
    from lesion.cli.render import show
    from lesion.data.synth import SynthSpec, synthesize
    from lesion.files import ensure_folder
    from lesion.progress import track
    from lesion.records import SynthReport

    ensure_folder(root)
    rows = synthesize(root, SynthSpec(lesions, width, height, seed), partial(track, Bars()))
    show(SynthReport(str(root), len(rows), lesions, seed), as_json)
