"""The files that an evaluation leaves behind."""

import json
from dataclasses import dataclass
from pathlib import Path

from lesion.engine.evaluation.answers import SplitAnswers
from lesion.engine.evaluation.card import render_card
from lesion.engine.evaluation.page import render_page
from lesion.engine.evaluation.worst import Pictures
from lesion.evaluation import Evaluation
from lesion.files import ensure_folder, write_atomic
from lesion.records import to_json
from lesion.run import run_of


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where to; None is not written."""

    page: Path | None
    card: Path | None
    report: Path | None
    answers: Path | None
    summary: Path | None = None

    @classmethod
    def of(
        cls, model: Path, split: str, tta: bool = False, html: Path | None = None, card: Path | None = None
    ) -> "Outputs":
        """What was asked for, and for a model in a run's folder all the rest, into it.

        With `tta` they have names of their own; the run's card is about the plain answers on "test".
        """
        run, name = run_of(model), to_name(split, tta)
        if run is None:
            return cls(html, card, None, None)
        return cls(
            page=html or run.page(name),
            card=card or (run.card if name == "test" else None),
            report=run.report(name),
            answers=run.answers(name),
            summary=run.summary(name),
        )

    @property
    def paths(self) -> list[Path]:
        """All that is written, what is for people first."""
        return [path for path in (self.page, self.card, self.report, self.answers, self.summary) if path]

    def check(self) -> None:
        """Prove that everything can be written, else OutputError: called before long work."""
        for folder in {path.parent for path in self.paths}:
            ensure_folder(folder)

    def write(self, evaluation: Evaluation, answers: SplitAnswers, pictures: Pictures) -> None:
        """Write them, each whole or not at all; OutputError when that fails."""
        if self.page:
            write_atomic(self.page, render_page(evaluation, pictures))
        if self.card:
            write_atomic(self.card, render_card(evaluation, answers.manifest))
        if self.report:
            write_atomic(self.report, to_json(evaluation))
        if self.answers:
            write_atomic(self.answers, answers.to_csv())
        if self.summary:
            write_atomic(self.summary, json.dumps(summarize(evaluation), indent=2, allow_nan=False))


def summarize(found: Evaluation) -> dict[str, float | None]:
    """Return the ten figures that say most, by name; None for what the data cannot give."""
    names = ("auroc", "average_precision", "sensitivity", "specificity", "calibration_error")
    return {
        "images": found.images,
        "lesions": found.lesions,
        "malignant": found.malignant,
        "malignant_missed": found.confusion["fn"],
        **{name: found.metrics[name].value for name in names},
        "referred": found.referral.referred.value,
    }


def to_name(split: str, tta: bool) -> str:
    """What figures of this split are called in files and in the store."""
    return f"{split}-tta" if tta else split
