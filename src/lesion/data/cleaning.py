"""What others write into a table, as HAM10000 writes it: ids, ages, sexes, sites."""

import math
from collections import Counter

from lesion.data.catalog import normalize
from lesion.errors import DataError

EMPTY = ("", "na", "n/a", "nan", "none", "null", "unknown", "unk", "?", "-")
# English, German, French, Spanish, Italian.
MALE = (
    "m", "male", "man", "mann", "männlich", "h", "homme", "masculin", "hombre", "masculino", "varón", "varon", "uomo",
    "maschio", "maschile",
)  # fmt: skip
FEMALE = (
    "f", "female", "woman", "w", "weiblich", "frau", "femme", "féminin", "feminin", "mujer", "femenino", "donna",
    "femmina", "femminile",
)  # fmt: skip
SEXES = dict.fromkeys(MALE, "male") | dict.fromkeys(FEMALE, "female")
Blanked = dict[str, Counter[str]]  # column → values that were not understood, with how often
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


def to_age(text: str, blanked: Blanked) -> str:
    """Years from 0 to 120 as "45.0", else "" and, unless it was empty, counted in `blanked`."""
    if text.lower() in EMPTY:
        return ""
    try:
        age = float(text.replace(",", "."))
    except ValueError:
        age = math.nan
    if 0 <= age <= 120:
        return str(age)
    blanked["age"][text] += 1
    return ""


def to_sex(text: str, blanked: Blanked, is_m_clear: bool = True) -> str:
    """One of male, female and unknown; what is neither nor empty is counted in `blanked`.

    Args:
        text: the value in the source.
        blanked: gets what is not understood.
        is_m_clear: False where "h" is in the same column: in Spanish that is hombre, and m then is mujer.
    """
    word = normalize(text).lower()
    if word not in (*EMPTY, *SEXES) or (word == "m" and not is_m_clear):
        blanked["sex"][text] += 1
        return "unknown"
    return SEXES.get(word, "unknown")


def to_words(text: str) -> str:
    """Lower case, letters, digits and inner punctuation: never the start of a formula."""
    plain = "".join(letter if letter.isalnum() or letter in " -/_()" else " " for letter in normalize(text).lower())
    words = " ".join(plain.split()).lstrip("-/_() ")
    return "" if words in EMPTY else words


def to_confirmation(text: str) -> str:
    """HAM10000's word for how a diagnosis was confirmed, else the text in plain words."""
    return CONFIRMED.get(text.lower(), to_words(text))
