"""The class names, their order, and which are malignant."""

from collections.abc import Sequence
from dataclasses import dataclass

from lesion.errors import ConfigError, DataError

MALIGNANT = "malignant"
BENIGN = "benign"

# HAM10000's `dx` values (Tschandl et al. 2018, doi:10.1038/sdata.2018.161). The order is the order of the logits.
DIAGNOSES = {
    "akiec": "actinic keratosis or intraepithelial carcinoma",
    "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis",
    "df": "dermatofibroma",
    "mel": "melanoma",
    "nv": "melanocytic nevus",
    "vasc": "vascular lesion",
}
# akiec is pre-malignant or in situ; like most of the literature we count it as malignant. `data.malignant` changes it.
MALIGNANT_DIAGNOSES = ("akiec", "bcc", "mel")


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """What the network's outputs mean.

    `labels` is the order of the logits: the seven diagnoses or (benign, malignant). `malignant` lists the diagnoses
    that count as malignant.
    """

    labels: tuple[str, ...]
    malignant: tuple[str, ...] = MALIGNANT_DIAGNOSES

    @classmethod
    def of(cls, classes: str, malignant: Sequence[str] = MALIGNANT_DIAGNOSES) -> "Taxonomy":
        """The taxonomy for `classes`, "diagnosis" or "malignancy"; ConfigError if `malignant` is no proper subset."""
        chosen = tuple(sorted(set(malignant)))
        if unknown := set(chosen) - set(DIAGNOSES):
            raise ConfigError(
                f"data.malignant: unknown diagnosis {', '.join(sorted(unknown))}",
                hint=f"any of: {', '.join(DIAGNOSES)}",
            )
        if not 0 < len(chosen) < len(DIAGNOSES):
            raise ConfigError("data.malignant: needs at least one malignant and one benign diagnosis")
        return cls(tuple(DIAGNOSES) if classes == "diagnosis" else (BENIGN, MALIGNANT), chosen)

    @property
    def knows_diagnoses(self) -> bool:
        """Whether the outputs are the seven diagnoses rather than the two classes."""
        return set(self.labels) != {BENIGN, MALIGNANT}

    @property
    def malignant_outputs(self) -> tuple[int, ...]:
        """The indices of the logits whose probabilities add up to "malignant"."""
        return tuple(i for i, label in enumerate(self.labels) if label == MALIGNANT or label in self.malignant)

    def is_malignant(self, dx: str) -> bool:
        """Whether the diagnosis `dx` counts as malignant."""
        return dx in self.malignant

    def target(self, dx: str) -> int:
        """The index of the logit that the diagnosis `dx` should raise; DataError for an unknown one."""
        if dx not in DIAGNOSES:
            raise DataError(f"unknown diagnosis {dx!r}", hint=f"one of: {', '.join(DIAGNOSES)}")
        label = dx if self.knows_diagnoses else (MALIGNANT if self.is_malignant(dx) else BENIGN)
        return self.labels.index(label)
