"""A network to a model file, accepted only after torch and the file agree."""

import logging
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lesion import __version__
from lesion.artifact import Artifact
from lesion.config.load import fingerprint, load_config
from lesion.config.schema import Config, EvalConfig
from lesion.data.split import Dataset, open_dataset
from lesion.engine.calibrate import (
    choose_threshold,
    fit_conformal,
    fit_limits,
    fit_prior,
    fit_temperature,
    limit_coverage,
    summarize,
)
from lesion.engine.checkpoint import find_best, read_checkpoint
from lesion.engine.guard import HINT
from lesion.engine.parity import BATCH, Logits, Parity, compare, run_batches
from lesion.engine.validation import Pixels, Validation, sample_training
from lesion.errors import ArtifactError, ConfigError, DataError, NonFiniteError, brief
from lesion.exports import ExportReport
from lesion.files import write_atomic
from lesion.inference.decide import Floats, to_malignant, to_probabilities
from lesion.inference.predictor import Answers, Predictor, draw_test_image
from lesion.manifest import Check, Conformal, Manifest, SelfTest
from lesion.metrics import measure, point
from lesion.models import Classifier, build, count_parameters
from lesion.models.checks import FLAGS, NAMES, Checks
from lesion.models.deployed import Deployed
from lesion.preprocess import PreprocessSpec
from lesion.progress import Progress, Silent
from lesion.records import NOTICE
from lesion.run import Run, now
from lesion.taxonomy import MALIGNANT, Taxonomy

log = logging.getLogger(__name__)
SELF_TEST_TOLERANCE = 1e-3  # other processors round differently; a wrong graph or geometry is off by far more
CHECKED = 2000  # training images that the checks are fitted to


def export_run(run: Run, progress: Progress | None = None) -> ExportReport:
    """Export the best checkpoint of `run` to its model.onnx and check it.

    Raises NotFoundError without a checkpoint, ConfigError for an ensemble, CheckFailed when torch and the file
    disagree; an older model.onnx is replaced only by one that passed.
    """
    if members := run.read_state().get("members"):
        raise ConfigError(
            f"{run.path} is an ensemble of {', '.join(map(str, members))}: it has no checkpoint of its own",
            hint="join its members again: lesion export --ensemble RUN RUN",
        )
    config = load_config([run.config])
    dataset = open_dataset(config.data, progress)
    split = run.read_state().get("split")
    if split is None:
        raise DataError(
            f"{run.path / 'run.json'} does not say which split the run was trained on",
            hint=f"`lesion train --resume {shlex.quote(str(run.path))}` records that of its configuration, and exports",
        )
    dataset.require_split(split, run.path)
    checkpoint = find_best(run)
    net = load_network(checkpoint, config)
    show = progress or Silent()
    validation = Validation.of(dataset, config, show)
    provenance = {
        "run": run.path.name,
        "checkpoint": checkpoint.name,
        "tier": config.model.tier,
        "parameters": count_parameters(net),
        **describe(config, dataset),
    }
    reference = _torch_logits(net, validation.pixels)
    if (correction := correct_prior(config, dataset, validation, reference)) is not None:
        add_bias(net, correction)
        reference = (reference + correction).astype(np.float32)
        provenance["prior_correction"] = list(map(float, correction))
    graph = deploy([net], sample_training(dataset, config, CHECKED, show))
    artifact = make_artifact(graph, name_model(config), config, validation, provenance)
    parity = compare(artifact, reference, validation)
    parity.require(config.export.parity_tolerance)
    return save(artifact, run.model, parity)


def name_model(config: Config) -> str:
    """What a model of this configuration is called in its file."""
    return config.model.tier if config.model.tier != "efficientnet" else f"efficientnet-{config.model.variant}"


def describe(config: Config, dataset: Dataset) -> dict[str, Any]:
    """What the provenance of every model file says."""
    return {
        "lesion": __version__,
        "exported": now(),
        "config": fingerprint(config),
        "data": dataset.name,
        "split": dataset.fingerprint,
        "notice": NOTICE,
    }


def load_network(checkpoint: Path, config: Config) -> Classifier:
    """The network with the checkpoint's weights.

    Raises ArtifactError when they are not ours or do not fit, NonFiniteError when one is not a number.
    """
    labels = Taxonomy.of(config.model.classes, config.data.malignant).labels
    net = build(replace(config.model, pretrained=False, weights=None), len(labels))
    state, prefix = read_checkpoint(checkpoint)["state_dict"], "classifier."
    try:
        net.load_state_dict({key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)})
    except (RuntimeError, AttributeError) as error:
        raise ArtifactError(
            f"{checkpoint} is not a checkpoint of this run: {brief(error)}",
            hint="use the run folder as `lesion train` wrote it",
        ) from error
    if not all(value.isfinite().all() for value in net.state_dict().values()):
        raise NonFiniteError(f"{checkpoint} holds weights that are not a number", hint=HINT)
    return net.eval()


def correct_prior(config: Config, dataset: Dataset, validation: Validation, logits: Logits) -> Floats | None:
    """What training with other class shares than the data's has to be corrected by, (classes,) to be added to logits.

    None when training took classes as often as they occur.
    """
    expected = config.loss.weighting + config.loss.adjustment + config.data.balance
    if not expected:
        return None
    taxonomy = Taxonomy.of(config.model.classes, config.data.malignant)
    targets = [taxonomy.target(row.dx) for row in dataset.members["train"]]
    counts = np.maximum(np.bincount(targets, minlength=len(taxonomy.labels)), 1)
    return fit_prior(logits, validation.targets, counts / counts.sum(), expected)


def add_bias(net: Classifier, bias: npt.ArrayLike) -> None:
    """Add (classes,) to the logits of `net`, in the bias of its last layer."""
    *_, last = (layer for layer in net.modules() if isinstance(layer, nn.Linear))
    with torch.no_grad():
        last.bias.add_(torch.as_tensor(np.asarray(bias), dtype=last.bias.dtype))


def deploy(nets: Sequence[Classifier], pixels: Pixels) -> bytes:
    """The ONNX graph of one network, or of the mean over several; its checks are fitted to `pixels`, (n, s, s, 3)."""
    nets = [net.to(memory_format=torch.contiguous_format) for net in nets]
    return trace(Deployed(nets, Checks(torch.from_numpy(pixels))).eval(), pixels.shape[1])


def trace(net: Deployed, size: int) -> bytes:
    """The ONNX graph: pixels uint8 (n, size, size, 3) to logits, checks and maps, n free."""
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("n", min=1, max=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notes to its own developers
        program = torch.onnx.export(
            net,
            (example,),
            dynamo=True,
            input_names=["pixels"],
            output_names=["logits", "checks", "maps"],
            dynamic_shapes={"pixels": {0: batch}},
            verbose=False,
        )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def make_artifact(
    graph: bytes,
    name: str,
    config: Config,
    validation: Validation,
    provenance: dict[str, Any],
    answers: Answers | None = None,
) -> Artifact:
    """Fit to validation all that the manifest holds, record what `graph` answers, and pack both as the model `name`.

    `answers` are those of `graph` to validation, if they are known.
    """
    taxonomy = Taxonomy.of(config.model.classes, config.data.malignant)
    spec = PreprocessSpec(**vars(config.preprocess))
    blank = Manifest(
        name=name,
        taxonomy=taxonomy,
        preprocess=spec,
        temperature=1.0,
        threshold=0.5,
        conformal=Conformal(0.0, 0.0, 1.0),
        checks=tuple(Check(name, None, None, *FLAGS[name]) for name in NAMES),
        reference=(),
        self_test=SelfTest((0.0,) * len(taxonomy.labels), SELF_TEST_TOLERANCE),
        provenance={},
    )
    draft = Predictor(Artifact.pack(graph, blank)[0])
    answers = answers or run_batches(draft, validation.pixels)
    temperature = fit_temperature(answers.logits, validation.targets)
    malignant = to_malignant(to_probabilities(answers.logits, temperature), blank)
    threshold = choose_threshold(
        malignant, validation.malignant, config.eval.sensitivity, validation.lesions, config.eval.confidence
    )
    answer = to_probabilities(draft.logits(spec.apply(draw_test_image())[None]), temperature)[0]
    figures = point(measure(malignant, validation.malignant, threshold))
    finished = replace(
        blank,
        temperature=temperature,
        threshold=threshold,
        conformal=_fit_sets(malignant, validation, config.eval),
        checks=fit_limits(answers.checks, blank.checks, config.eval.acceptance),
        reference=(summarize(MALIGNANT, malignant), *map(summarize, NAMES, answers.checks.T)),
        self_test=SelfTest(tuple(map(float, answer)), SELF_TEST_TOLERANCE),
        provenance={**provenance, "operating_point": _describe_rule(config.eval),
                    "validation": figures},
    )  # fmt: skip
    return Artifact.pack(graph, finished)[0]


def save(artifact: Artifact, path: Path, parity: Parity, reference_latency_ms: float | None = None) -> ExportReport:
    """Record the parity in the manifest and write the file, whole or not at all."""
    facts = {"images": parity.images, "max_difference": parity.max_difference, "flips": parity.flips}
    sealed, content = Artifact.pack(artifact.graph, artifact.with_provenance(parity=facts))
    write_atomic(path, content)
    manifest = sealed.manifest
    return ExportReport(
        model=str(path),
        name=sealed.identity,
        bytes=len(content),
        quantized="quantization" in manifest.provenance,
        parity_images=parity.images,
        parity_max_difference=parity.max_difference,
        parity_flips=parity.flips,
        validation=manifest.provenance["validation"],
        latency_ms=parity.latency_ms,
        reference_latency_ms=reference_latency_ms,
        temperature=manifest.temperature,
        threshold=manifest.threshold,
    )


def _describe_rule(config: EvalConfig) -> str:
    """How the threshold was chosen, as the manifest says it."""
    rule = f"sensitivity >= {config.sensitivity}"
    if config.confidence is None:
        return f"{rule} on validation"
    return f"{rule} over lesions with confidence {config.confidence}, from validation"


def _fit_sets(malignant: Floats, validation: Validation, config: EvalConfig) -> Conformal:
    """The conformal sets; lesions that are too few for a coverage reduce it, unless `eval.coverage` asks for one."""
    truth, lesions = validation.malignant, validation.lesions
    if config.coverage is not None:
        return fit_conformal(malignant, truth, lesions, config.coverage, config.coverage)
    wanted = config.coverage_malignant, config.coverage_benign
    given = tuple(limit_coverage(goal, each, lesions) for goal, each in zip(wanted, (truth, ~truth), strict=True))
    for name, goal, coverage in zip(("malignant", "benign"), wanted, given, strict=True):
        if coverage < goal:
            log.warning(
                "the %s lesions of validation are too few for eval.coverage_%s=%g: the sets cover %.3f of them",
                name, name, goal, coverage,
            )  # fmt: skip
    return fit_conformal(malignant, truth, lesions, *given)


def _torch_logits(net: Classifier, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    with torch.inference_mode():
        parts = [net(torch.from_numpy(pixels[i : i + BATCH])) for i in range(0, len(pixels), BATCH)]
    return torch.cat(parts).numpy()
