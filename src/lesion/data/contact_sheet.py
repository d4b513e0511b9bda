"""A picture with a few images of each diagnosis, to see at a glance what a dataset holds."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from lesion.data.index import Row
from lesion.data.pixels import read_photo
from lesion.errors import LesionError
from lesion.preprocess import PreprocessSpec
from lesion.taxonomy import DIAGNOSES

COLUMNS = 6
SIDE = 160  # pixels of one image
GAP = 8
TITLE = 34  # pixels for the line above a row of images
PAPER, INK, FAINT = "#fbfaf8", "#222222", "#dddad5"


def draw_contact_sheet(rows: Sequence[Row], columns: int = COLUMNS) -> Image.Image:
    """`columns` images of each diagnosis, of different lesions and spread over the dataset; the same at every call.

    An image that cannot be read is drawn as an empty frame that says so. Returns mode RGB, 1016 pixels wide for six
    columns.
    """
    found = [dx for dx in DIAGNOSES if any(row.dx == dx for row in rows)]
    width, band = columns * (SIDE + GAP) + GAP, TITLE + SIDE + GAP
    sheet = Image.new("RGB", (width, max(len(found), 1) * band + GAP), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(20)
    if not found:
        pen.text((GAP, GAP), "no known diagnosis", INK, font)
    for line, dx in enumerate(found):
        members = [row for row in rows if row.dx == dx]
        top = line * band
        title = f"{dx}   {DIAGNOSES[dx]}   {len(members)} image{'s' * (len(members) != 1)}"
        pen.text((GAP, top + TITLE - 6), title, INK, font, anchor="ls")
        for column, row in enumerate(pick_rows(members, columns)):
            sheet.paste(_draw_tile(row), (GAP + column * (SIDE + GAP), top + TITLE))
    return sheet


def pick_rows(rows: Sequence[Row], count: int) -> list[Row]:
    """At most `count` rows, one per lesion, evenly spread over the order of the metadata."""
    firsts = list({row.lesion_id: row for row in reversed(rows)}.values())[::-1]
    if len(firsts) <= count:
        return firsts
    return [firsts[(2 * i + 1) * len(firsts) // (2 * count)] for i in range(count)]


def encode(image: Image.Image, kind: str) -> bytes:
    """The image as "PNG" or "JPEG" bytes."""
    content = io.BytesIO()
    image.save(content, kind, **({"quality": 85} if kind == "JPEG" else {"optimize": True}))
    return content.getvalue()


def _draw_tile(row: Row) -> Image.Image:
    try:
        return Image.fromarray(PreprocessSpec(SIDE, "bicubic").apply(read_photo(row.path)))
    except LesionError:
        tile = Image.new("RGB", (SIDE, SIDE), FAINT)
        ImageDraw.Draw(tile).text((SIDE / 2, SIDE / 2), "not readable", INK, ImageFont.load_default(16), anchor="mm")
        return tile
