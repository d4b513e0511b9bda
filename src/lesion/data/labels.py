"""What other datasets call the seven diagnoses: the one table of synonyms, and how a label is looked up in it."""

import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher

from lesion.errors import ConfigError, DataError
from lesion.suggest import lookup
from lesion.taxonomy import DIAGNOSES

MOST = 50  # labels in one error; a column of free text has thousands
SHOWN = 10  # of them as options to paste
SKIP = "skip"  # in place of a diagnosis: leave the images with this label out

# As HAM10000 groups them (Tschandl et al. 2018). What that grouping does not name is not here: the user decides.
SYNONYMS = {
    "akiec": (
        "actinic keratosis", "actinic keratoses", "ak", "ack", "solar keratosis", "solar keratoses",
        "bowen", "bowen disease", "bowen's disease", "morbus bowen", "intraepithelial carcinoma",
        "actinic keratosis intraepithelial carcinoma", "actinic keratoses and intraepithelial carcinoma",
        "scc in situ", "squamous cell carcinoma in situ", "in situ squamous cell carcinoma",
        "aktinische keratose", "aktinische keratosen", "kératose actinique", "queratosis actínica",
        "cheratosi attinica", "maladie de bowen", "enfermedad de bowen", "malattia di bowen",
    ),
    "bcc": (
        "basal cell carcinoma", "basalioma", "nodular basal cell carcinoma", "superficial basal cell carcinoma",
        "basalzellkarzinom", "basaliom", "carcinome basocellulaire", "carcinoma basocelular",
        "carcinoma basocellulare",
    ),
    "bkl": (
        "bk", "benign keratosis", "benign keratoses", "benign keratosis like lesion", "benign lesion of the keratosis",
        "pigmented benign keratosis", "pbk", "seborrheic keratosis", "seborrheic keratoses", "sk", "sek", "seb k",
        "lentigo", "lentigines", "solar lentigo", "solar lentigines", "lichen planus like keratosis",
        "lichen planus like keratoses", "lplk", "lichenoid keratosis", "lichenoid keratoses",
        "seborrhoische keratose", "seborrhoische keratosen", "kératose séborrhéique", "queratosis seborreica",
        "cheratosi seborroica",
    ),
    "df": (
        "dermatofibroma", "dermatofibromata", "fibrous histiocytoma", "benign fibrous histiocytoma", "dermatofibrom",
        "dermatofibrome",
    ),
    "mel": (
        "melanoma", "malignant melanoma", "mm", "melanoma in situ", "in situ melanoma", "invasive melanoma",
        "melanoma invasive", "superficial spreading melanoma", "nodular melanoma", "lentigo maligna",
        "lentigo maligna melanoma", "acral lentiginous melanoma", "acral melanoma", "amelanotic melanoma", "melanom",
        "malignes melanom", "mélanome", "mélanome malin", "melanoma maligno",
    ),
    "nv": (
        "nevus", "nevi", "nev", "mole", "melanocytic nevus", "melanocytic nevi", "common nevus", "atypical nevus",
        "atypical nevi", "dysplastic nevus", "dysplastic nevi", "clark nevus", "blue nevus", "spitz nevus",
        "reed nevus", "reed or spitz nevus", "congenital nevus", "combined nevus", "compound nevus", "dermal nevus",
        "intradermal nevus", "junctional nevus", "recurrent nevus", "halo nevus", "acral nevus", "nävus", "nävi",
        "melanozytärer nävus", "melanozytäre nävi", "nævus mélanocytaire", "nevo", "nevo melanocítico",
        "nevo melanocitico",
    ),
    "vasc": (
        "vascular", "vascular lesion", "vascular skin lesion", "angioma", "cherry angioma", "hemangioma",
        "cherry hemangioma", "angiokeratoma", "pyogenic granuloma", "hemorrhage", "hämangiom", "angiom", "angiome",
        "hémangiome",
    ),
}  # fmt: skip
INVASIVE = "invasive: HAM10000 has only its form in situ, as akiec"
# Labels that look like a synonym and are none.
OUTSIDE = {
    "scc": INVASIVE,
    "squamous cell carcinoma": INVASIVE,
    "squamous cell carcinoma, NOS": INVASIVE,
    "squamous cell carcinoma, invasive": INVASIVE,
    "plattenepithelkarzinom": INVASIVE,
    "spinaliom": INVASIVE,
    "carcinome épidermoïde": INVASIVE,
    "carcinoma espinocelular": INVASIVE,
    "carcinoma spinocellulare": INVASIVE,
    "unk": "no diagnosis",
    "unknown": "no diagnosis",
    "other": "no diagnosis",
    "benign": "no diagnosis, only a class",
    "malignant": "no diagnosis, only a class",
}


def to_key(label: str) -> str:
    """The label without case, spaces, punctuation, accents and the difference of British and American spelling."""
    plain = unicodedata.normalize("NFKD", label.casefold().replace("æ", "ae").replace("œ", "oe"))
    letters = "".join(letter for letter in plain if letter.isalnum())
    return letters.replace("ae", "e").replace("oe", "e")


KNOWN = {to_key(name): dx for dx, names in SYNONYMS.items() for name in (dx, DIAGNOSES[dx], *names)}
NAMES = {to_key(name): name for dx, names in SYNONYMS.items() for name in (dx, DIAGNOSES[dx], *names)}
REASONS = {to_key(label): reason for label, reason in OUTSIDE.items()}


def find_diagnosis(label: str) -> str | None:
    """The diagnosis that `label` means, or None when the table does not say."""
    key = to_key(label)
    return KNOWN.get(key) or KNOWN.get(key.removesuffix("s"))


def read_map(pairs: Sequence[str]) -> dict[str, str]:
    """The user's own synonyms, "theirs=ours", as key of the label → diagnosis or "skip".

    Raises ConfigError for a pair without "=", an unknown diagnosis, or a label that is mapped twice.
    """
    mapping: dict[str, str] = {}
    for pair in pairs:
        theirs, equals, ours = (part.strip() for part in pair.rpartition("="))
        if not equals or not to_key(theirs):
            raise ConfigError(f"--map: {pair!r} is not of the form theirs=ours", hint="for example --map lm=mel")
        meant = find_diagnosis(ours) or lookup({name: name for name in (*DIAGNOSES, SKIP)}, ours, "diagnosis in --map")
        if mapping.setdefault(to_key(theirs), meant) != meant:
            raise ConfigError(f"--map: {theirs!r} is given twice, as {mapping[to_key(theirs)]} and as {meant}")
    return mapping


def map_labels(labels: Iterable[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Each label → its diagnosis or "skip"; `mapping` (of `read_map`) goes before the table of synonyms.

    Raises:
        DataError: labels that neither knows; all of them, each with its number of images and what is nearest.
        ConfigError: `mapping` names a label that is not there.
    """
    counts = Counter(labels)
    keys = {to_key(label): label for label in counts}
    if idle := next((key for key in mapping if key not in keys), None):
        raise ConfigError(
            f"--map: the source has no label {idle!r}",
            hint=f"its labels: {', '.join(sorted(counts))}",
        )
    found = {label: mapping.get(to_key(label)) or find_diagnosis(label) for label in counts}
    unknown = sorted((label for label, dx in found.items() if dx is None), key=lambda label: (-counts[label], label))
    if unknown:
        told = [_describe(label, counts[label]) for label in unknown[:MOST]]
        more = f"; and {len(unknown) - MOST} more" if len(unknown) > MOST else ""
        options = [f"--map {shlex.quote(f'{label}=DIAGNOSIS')}" for label in unknown[:SHOWN]]
        raise DataError(
            f"{len(unknown)} unknown label{'s' * (len(unknown) > 1)}: {'; '.join(told)}{more}",
            hint=f"add {' '.join(options)}{' …' if len(unknown) > SHOWN else ''} with a diagnosis of each: "
            f"{', '.join(DIAGNOSES)}, or {SKIP} to leave its images out",
        )
    return {label: dx for label, dx in found.items() if dx is not None}


def _describe(label: str, count: int) -> str:
    reason = REASONS.get(to_key(label))
    close = None if reason else _find_nearest(label)
    more = f", {reason}" if reason else f", nearest is {close!r}: {KNOWN[to_key(close)]}" if close else ""
    return f"{label!r} ({count} image{'s' * (count != 1)}{more})"


def _find_nearest(label: str) -> str | None:
    """The known name that `label` misspells, or None: a guess at another word would turn one disease into another.

    Merkel cell carcinoma is like basal cell carcinoma in most of its letters, dermatofibrosarcoma like dermatofibroma:
    each word has to be like one word, in its letters and in its length.
    """
    words = _to_words(label)
    names = [
        name for name in NAMES.values() if len(other := _to_words(name)) == len(words) and _are_alike(words, other)
    ]
    return max(names, key=lambda name: SequenceMatcher(None, to_key(label), to_key(name)).ratio(), default=None)


def _to_words(text: str) -> list[str]:
    # NOS: not otherwise specified, as ISIC writes behind most diagnoses.
    return [key for word in re.split(r"[\W_]+", text) if (key := to_key(word)) and key != "nos"]


def _are_alike(words: Sequence[str], others: Sequence[str]) -> bool:
    return all(
        word == other
        or (
            min(len(word), len(other)) > 4  # an abbreviation is like too much
            and abs(len(word) - len(other)) <= 2
            and SequenceMatcher(None, word, other).ratio() >= 0.8
        )
        for word, other in zip(words, others, strict=True)
    )
