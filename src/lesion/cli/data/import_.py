"""`lesion data import`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lesion.cli.options import Json

Source = Annotated[
    Path, typer.Argument(help="The folder of images; without a table, the folders in it are the classes.")
]
Pattern = Annotated[
    str | None,
    typer.Option(help="A regular expression with one group: the lesion, in the file's stem.", show_default=False),
]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="THEIRS=OURS", help="A label and its diagnosis, or skip; may be repeated.", show_default=False
    ),
]
Skip = Annotated[
    bool,
    typer.Option(
        "--skip-unusable",
        help="Leave out, and list, images that are absent or no JPEG or PNG, and lesions with two diagnoses.",
    ),
]


def column(meaning: str) -> Any:
    """The option that names one column of the table."""
    return typer.Option(help=f"Column of --csv. {meaning}", metavar="NAME", show_default=False)


def import_(
    source: Source,
    root: Annotated[Path, typer.Argument(help="A folder to make; one that holds a dataset is refused.")],
    csv: Annotated[Path | None, typer.Option(help="A table of labels.", show_default=False)] = None,
    image_column: Annotated[str | None, column("The image: path in SOURCE, file name, or stem.")] = None,
    label_column: Annotated[str | None, column("The label, see --map.")] = None,
    lesion_column: Annotated[str | None, column("The lesion; empty: unknown.")] = None,
    age_column: Annotated[str | None, column("The age in years.")] = None,
    sex_column: Annotated[str | None, column("Female or male.")] = None,
    site_column: Annotated[str | None, column("The site on the body.")] = None,
    isic: Annotated[Path | None, typer.Option(help="ISIC 2018 or 2019 ground truth.", show_default=False)] = None,
    metadata: Annotated[Path | None, typer.Option(help="Its lesion groupings or metadata.", show_default=False)] = None,
    encoding: Annotated[str, typer.Option(help="Of the tables, for example cp1252.")] = "utf-8",
    lesion_pattern: Pattern = None,
    prefix: Annotated[bool, typer.Option("--prefix", help="Make ids from whole paths, for files of one name.")] = False,
    map_: Map = None,
    link: Annotated[bool, typer.Option("--link", help="Link to the images instead of copying them.")] = False,
    skip_unusable: Skip = False,
    as_json: Json = False,
) -> None:
    """Bring your own images into HAM10000's layout: class folders, a CSV, or ISIC's ground truth.

    Example: lesion data import photos data/mine --map 'lentigo simplex=skip'
    """
    from lesion.cli.bars import Bars
    from lesion.cli.render import show
    from lesion.data.importing import ImportSpec, import_dataset

    columns = {"image": image_column, "label": label_column, "lesion": lesion_column, "age": age_column,
               "sex": sex_column, "site": site_column}  # fmt: skip
    spec = ImportSpec(csv, columns, isic, metadata, encoding, lesion_pattern, prefix, map_ or (), link, skip_unusable)
    show(import_dataset(source, root, spec, Bars()), as_json)
