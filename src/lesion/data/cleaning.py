"""What others write into a table, as HAM10000 writes it: ids, ages, sexes, sites."""

import math
from collections import Counter

from lesion.data.catalog import normalize
from lesion.errors import DataError

EMPTY = ("", "na", "n/a", "nan", "none", "null", "unknown", "unk", "?", "-")
SEXES = {"m": "male", "male": "male", "man": "male", "f": "female", "female": "female", "woman": "female"}
CONFIRMED = {
    "histopathology": "histo",
    "serial imaging showing no change": "follow_up",
    "single image expert consensus": "consensus",
    "confocal microscopy with consensus dermoscopy": "confocal",
}


def to_id(name: str) -> str:
    """Letters, digits, _ and - only: safe as a file name, in a shell, and in a spreadsheet (no formula)."""
    text = "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in normalize(name)).lstrip("-")
    if not any(letter.isalnum() for letter in text):
        raise DataError(f"no id can be made from the name {name!r}", hint="letters and digits are needed")
    return text


def to_age(text: str, blanked: Counter[str]) -> str:
    """Years from 0 to 120 as "45.0", else "" and, unless it was empty, counted in `blanked`."""
    if text.lower() in EMPTY:
        return ""
    try:
        age = float(text.replace(",", "."))
    except ValueError:
        age = math.nan
    if 0 <= age <= 120:
        return str(age)
    blanked["age"] += 1
    return ""


def to_sex(text: str, blanked: Counter[str]) -> str:
    """One of male, female and unknown; what is neither nor empty is counted in `blanked`."""
    if text.lower() not in (*EMPTY, *SEXES):
        blanked["sex"] += 1
    return SEXES.get(text.lower(), "unknown")


def to_words(text: str) -> str:
    """Lower case, letters, digits and inner punctuation: never the start of a formula."""
    plain = "".join(letter if letter.isalnum() or letter in " -/_()" else " " for letter in normalize(text).lower())
    words = " ".join(plain.split()).lstrip("-/_() ")
    return "" if words in EMPTY else words


def to_confirmation(text: str) -> str:
    """HAM10000's word for how a diagnosis was confirmed, else the text in plain words."""
    return CONFIRMED.get(text.lower(), to_words(text))
