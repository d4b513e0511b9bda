"""Several runs as one model file: the mean over their networks, calibrated anew on images that none was trained on."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lesion.artifact import Artifact
from lesion.config.load import load_config, to_yaml
from lesion.config.schema import Config
from lesion.data.split import Dataset, open_dataset
from lesion.engine.checkpoint import find_best
from lesion.engine.export import CHECKED, add_bias, deploy, describe, load_network, make_artifact, save
from lesion.engine.parity import compare, measure_latency, run_batches
from lesion.engine.validation import Validation, sample_training
from lesion.errors import ConfigError, DataError, LesionError
from lesion.exports import EnsembleReport, ExportReport, Member
from lesion.files import write_atomic
from lesion.inference.decide import Floats, to_malignant, to_probabilities
from lesion.inference.predictor import Predictor
from lesion.metrics import estimate_auroc, estimate_auroc_loss
from lesion.models import Classifier, count_parameters
from lesion.progress import Progress, Silent, track
from lesion.records import Estimate
from lesion.run import FINISHED, Run, now
from lesion.tracking.database import store_url
from lesion.tracking.store import Store, digest

log = logging.getLogger(__name__)
ENSEMBLE = "ensemble"


@dataclass(frozen=True, slots=True)
class Part:
    """A run that is joined with others."""

    run: Run
    config: Config
    artifact: Artifact
    """Its model.onnx."""

    @classmethod
    def of(cls, run: Run) -> "Part":
        """Read its configuration and its file; NotFoundError or ArtifactError."""
        return cls(run, load_config([run.config]), Artifact.read(run.model))

    @property
    def split(self) -> object:
        """Fingerprint of the split that it was trained on."""
        return self.artifact.manifest.provenance.get("split")


def export_ensemble(runs: Sequence[Run], folder: Path, progress: Progress | None = None) -> EnsembleReport:
    """Join `runs` into one model file, in a run folder of its own below `folder`.

    Its logits are the mean of the members', each divided by its own temperature first, so that one that is too sure
    of itself does not outvote the rest. All that the file decides by is fitted anew: on the members' validation split
    or, for members of different folds, on the images that `data.calibration` kept apart.

    Raises:
        ConfigError: fewer than two runs, one named twice, or members that see other pixels.
        DataError: members of other classes or of other splits; there is then nothing to calibrate on.
        CheckFailed: the file does not answer as its members' files do; nothing is written.
        Further errors as in `export_run`.
    """
    parts, show = [Part.of(run) for run in runs], progress or Silent()
    require_alike(parts)
    config = find_common(parts)
    dataset = open_dataset(config.data, show)
    for part in parts:
        trained_on = replace(config.data, val_fold=part.config.data.val_fold)
        open_dataset(trained_on, show).require_split(part.split, part.run.model)
    validation = Validation.of(dataset, config, show)
    asked = [_ask(part, validation) for part in track(show, parts, len(parts), "ask the members")]
    members, logits = [member for member, _ in asked], np.mean([answers for _, answers in asked], axis=0)

    artifact = _join(parts, config, dataset, validation, show)
    parity = compare(artifact, logits, validation)
    parity.require(config.export.parity_tolerance, "the mean of its members' files")

    malignant = _malignant(artifact, logits, artifact.manifest.temperature)
    best, answers = max(asked, key=lambda each: each[0].auroc.value or 0.0)
    alone = _malignant(artifact, answers)
    gain = estimate_auroc_loss(malignant, alone, validation.malignant, validation.lesions)
    run = Run.create(folder, ENSEMBLE)
    facts = artifact.with_provenance(run=run.path.name, members=[_name(member) for member in members])
    exported = save(replace(artifact, manifest=facts), run.model, parity)
    _finish(run, config, dataset, exported, members)
    return EnsembleReport(
        exported, members, _estimate(malignant, validation), best.run, gain,
        slowdown=exported.latency_ms / best.latency_ms, growth=exported.bytes / best.bytes,
    )  # fmt: skip


def require_alike(parts: Sequence[Part]) -> None:
    """ConfigError or DataError unless they are at least two different runs with the same input and output."""
    paths = [part.run.path.resolve() for part in parts]
    if len(set(paths)) < max(2, len(paths)):
        raise ConfigError(
            f"an ensemble of {len(paths)} run{'s' * (len(paths) != 1)}, {len(set(paths))} of them different; at least "
            "two expected, each once",
            hint="name runs of several seeds, tiers or folds: lesion export --ensemble RUN RUN RUN",
        )
    first = parts[0]
    for part in parts[1:]:
        ours, theirs = first.artifact.manifest, part.artifact.manifest
        if ours.preprocess != theirs.preprocess:
            raise ConfigError(
                f"{first.run.path} sees {_tell(ours.preprocess)}, {part.run.path} {_tell(theirs.preprocess)}: one file "
                "has one input",
                hint="train them with the same preprocess.size and preprocess.filter",
            )
        if ours.taxonomy != theirs.taxonomy:
            raise DataError(
                f"{first.run.path} answers with {_tell(ours.taxonomy)}; {part.run.path} with {_tell(theirs.taxonomy)}",
                hint="train them with the same model.classes and data.malignant",
            )


def find_common(parts: Sequence[Part]) -> Config:
    """The first member's configuration, with a validation split that is new to every member.

    Raises DataError when there is none.
    """
    first = parts[0]
    other = next((part for part in parts if part.split != first.split), None)
    if other is None:
        return first.config
    one, two = first.config.data, other.config.data
    if not (one.folds and one.folds == two.folds and one.val_fold != two.val_fold):
        raise DataError(
            f"{first.run.path} was trained on split {first.split}, {other.run.path} on split {other.split}: what is "
            "new to one is not to the other",
            hint="join runs that were trained on the same split of the same data",
        )
    if not one.calibration:
        raise DataError(
            f"{first.run.path} and {other.run.path} were validated on different folds, and each was trained on the "
            "other's: no image but those of the test is new to both, so the ensemble cannot be calibrated",
            hint="train the folds with data.calibration=0.15, which keeps images apart for that",
        )
    return replace(first.config, data=replace(one, val_fold=None))


def _ask(part: Part, validation: Validation) -> tuple[Member, Floats]:
    """What a member's file does on validation, and its logits (n, c) at its own temperature."""
    predictor = Predictor(part.artifact)
    predictor.run_self_test()
    manifest, path = part.artifact.manifest, part.run.model
    logits = run_batches(predictor, validation.pixels).logits.astype(float) / manifest.temperature
    member = Member(
        run=part.run.path.name,
        model=part.artifact.identity,
        sha256=part.artifact.digest,
        bytes=path.stat().st_size,
        latency_ms=measure_latency(predictor),
        auroc=_estimate(_malignant(part.artifact, logits), validation),
    )
    return member, logits


def _join(
    parts: Sequence[Part], config: Config, dataset: Dataset, validation: Validation, progress: Progress
) -> Artifact:
    """Their networks as one graph, with all that is fitted to validation."""
    nets = [_temper(load_network(find_best(part.run), part.config), part.artifact) for part in parts]
    facts = {"tier": ENSEMBLE, "parameters": sum(map(count_parameters, nets)), **describe(config, dataset)}
    graph = deploy(nets, sample_training(dataset, config, CHECKED, progress))
    return make_artifact(graph, ENSEMBLE, config, validation, facts)


def _temper(net: Classifier, artifact: Artifact) -> Classifier:
    """`net` with its file's correction of the prior and its temperature in the weights of its last layer."""
    if (correction := artifact.manifest.provenance.get("prior_correction")) is not None:
        add_bias(net, correction)
    *_, last = (layer for layer in net.modules() if isinstance(layer, nn.Linear))
    with torch.no_grad():
        for weights in last.parameters():
            weights.div_(artifact.manifest.temperature)
    return net


def _malignant(artifact: Artifact, logits: Floats, temperature: float = 1.0) -> Floats:
    return to_malignant(to_probabilities(logits, temperature), artifact.manifest)


def _estimate(malignant: Floats, validation: Validation) -> Estimate:
    truth = validation.malignant
    return estimate_auroc(malignant, truth, validation.lesions)


def _name(member: Member) -> dict[str, str]:
    return {"run": member.run, "model": member.model, "sha256": member.sha256}


def _finish(run: Run, config: Config, dataset: Dataset, exported: ExportReport, members: Sequence[Member]) -> None:
    """Make the folder a finished run, for all that looks for one."""
    names = [member.run for member in members]
    write_atomic(run.config, to_yaml(config))
    run.write_state(
        status=FINISHED, finished=now(), model=exported.name, validation=exported.validation, members=names,
        split=dataset.fingerprint, data=dataset.name,
    )  # fmt: skip
    about: Mapping[str, str] = {"members": ", ".join(names), "split": dataset.fingerprint}
    figures: dict[str, Any] = {f"val_{name}": value for name, value in exported.validation.items()}
    try:
        with Store.open(store_url(config.tracking.store, run.path.parent)) as store:
            number = store.start(run.path, ENSEMBLE, asdict(config), about)
            store.add_artifact(number, run.model.name, "model", *digest(run.model))
            store.finish(number, FINISHED, figures)
    except LesionError as error:
        log.warning("the ensemble is not in the store of runs: %s", error.message)


def _tell(what: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in asdict(what).items())
