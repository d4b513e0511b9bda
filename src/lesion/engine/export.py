"""A network to a model file, accepted only after torch and the file agree."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lesion import __version__
from lesion.artifact import Artifact, Manifest, SelfTest
from lesion.config.load import fingerprint, load_config
from lesion.config.schema import Config
from lesion.data.split import Dataset, open_dataset
from lesion.engine.calibrate import choose_threshold, fit_temperature
from lesion.engine.checkpoint import find_best, read_checkpoint
from lesion.errors import ArtifactError, CheckFailed, brief
from lesion.files import write_atomic
from lesion.inference.decide import to_malignant, to_probabilities
from lesion.inference.predictor import Predictor, draw_test_image
from lesion.metrics import measure, point
from lesion.models import Classifier, build, count_parameters
from lesion.preprocess import PreprocessSpec
from lesion.progress import Progress, Silent
from lesion.records import NOTICE, ExportReport
from lesion.run import Run, now
from lesion.taxonomy import Taxonomy

SELF_TEST_TOLERANCE = 1e-3  # other processors round differently; a wrong graph or geometry is off by far more
BATCH = 16


@dataclass(frozen=True, slots=True)
class Validation:
    """The validation split as a network sees it."""

    pixels: npt.NDArray[np.uint8]
    """(n, size, size, 3)"""
    targets: npt.NDArray[np.int64]
    """(n,)"""
    malignant: npt.NDArray[np.bool_]
    """(n,)"""
    lesions: list[str]
    """The lesion of each image: images of one lesion are no independent evidence."""

    @classmethod
    def of(cls, dataset: Dataset, config: Config, progress: Progress) -> "Validation":
        """The validation split, from the cache of decoded pixels."""
        rows = dataset.members["val"]
        taxonomy = Taxonomy.of(config.model.classes, config.data.malignant)
        spec = PreprocessSpec(config.preprocess.size, config.preprocess.filter)
        return cls(
            dataset.open_cache(spec, config.data.workers, progress).take(rows),
            np.array([taxonomy.target(row.dx) for row in rows]),
            np.array([taxonomy.is_malignant(row.dx) for row in rows]),
            [row.lesion_id for row in rows],
        )


@dataclass(frozen=True, slots=True)
class Parity:
    """How a file's answers differ from a reference's on the same pixels."""

    images: int
    max_difference: float
    """Largest difference of a probability."""
    flips: int
    """Decisions that differ."""
    latency_ms: float
    """Median milliseconds of the file for one image of ready pixels."""

    def require(self, tolerance: float) -> None:
        """CheckFailed when a probability differs by more than `tolerance` or any decision flips."""
        if not self.max_difference <= tolerance or self.flips:  # `not <=`: NaN must fail, too
            raise CheckFailed(
                f"the exported file disagrees with torch on {self.images} validation images: a probability differs "
                f"by {self.max_difference:.2g} (at most {tolerance:.2g} expected), {self.flips} decisions flip "
                "(0 expected)",
                hint="the file was not written; please report this with the run's config.yaml",
            )


def export_run(run: Run, progress: Progress | None = None) -> ExportReport:
    """Export the best checkpoint of `run` to its model.onnx and check it.

    Raises NotFoundError without a checkpoint, CheckFailed when torch and the file disagree; an older model.onnx is
    replaced only by one that passed.
    """
    config = load_config([run.config])
    dataset = open_dataset(config.data, progress)
    dataset.require_split(run.read_state().get("split"), run.path)
    checkpoint = find_best(run)
    net = load_network(checkpoint, config)
    validation = Validation.of(dataset, config, progress or Silent())
    provenance = {
        "lesion": __version__,
        "exported": now(),
        "run": run.path.name,
        "checkpoint": checkpoint.name,
        "tier": config.model.tier,
        "parameters": count_parameters(net),
        "config": fingerprint(config),
        "data": dataset.name,
        "split": dataset.fingerprint,
        "notice": NOTICE,
    }
    artifact = make_artifact(trace(net, config.preprocess.size), config, validation, provenance)
    parity = compare(artifact, _torch_logits(net, validation.pixels), validation)
    parity.require(config.export.parity_tolerance)
    return save(artifact, run.model, parity)


def load_network(checkpoint: Path, config: Config) -> Classifier:
    """The network with the checkpoint's weights; ArtifactError when they are not ours or do not fit."""
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
    return net.eval()


def trace(net: Classifier, size: int) -> bytes:
    """The ONNX graph: pixels uint8 (n, size, size, 3) to logits float32 (n, classes), n free."""
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("n", min=1, max=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notes to its own developers
        program = torch.onnx.export(
            net,
            (example,),
            dynamo=True,
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_shapes={"pixels": {0: batch}},
            verbose=False,
        )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def make_artifact(graph: bytes, config: Config, validation: Validation, provenance: dict[str, Any]) -> Artifact:
    """Calibrate `graph` on validation, record what it answers, and pack both."""
    taxonomy = Taxonomy.of(config.model.classes, config.data.malignant)
    spec = PreprocessSpec(config.preprocess.size, config.preprocess.filter)
    manifest = Manifest(
        name=config.model.tier if config.model.tier != "efficientnet" else f"efficientnet-{config.model.variant}",
        taxonomy=taxonomy,
        preprocess=spec,
        temperature=1.0,
        threshold=0.5,
        self_test=SelfTest((0.0,) * len(taxonomy.labels), SELF_TEST_TOLERANCE),
        provenance={},
    )
    draft = Predictor(Artifact.pack(graph, manifest)[0])
    logits = run_batches(draft, validation.pixels)
    temperature = fit_temperature(logits, validation.targets)
    malignant = to_malignant(to_probabilities(logits, temperature), manifest)
    threshold = choose_threshold(malignant, validation.malignant, config.eval.sensitivity)
    answer = to_probabilities(draft.logits(spec.apply(draw_test_image())[None]), temperature)[0]
    figures = point(measure(malignant, validation.malignant, threshold))
    finished = replace(
        manifest,
        temperature=temperature,
        threshold=threshold,
        self_test=SelfTest(tuple(map(float, answer)), SELF_TEST_TOLERANCE),
        provenance={**provenance, "operating_point": f"sensitivity >= {config.eval.sensitivity} on validation",
                    "validation": figures},
    )  # fmt: skip
    return Artifact.pack(graph, finished)[0]


def compare(artifact: Artifact, reference: npt.NDArray[np.float32], validation: Validation) -> Parity:
    """Run `artifact` on validation against the reference logits (n, c)."""
    predictor = Predictor(artifact)
    predictor.run_self_test()
    manifest = artifact.manifest
    ours = to_probabilities(run_batches(predictor, validation.pixels), manifest.temperature)
    theirs = to_probabilities(reference, manifest.temperature)
    decisions = [to_malignant(each, manifest) >= manifest.threshold for each in (ours, theirs)]
    flips = int((decisions[0] != decisions[1]).sum())
    return Parity(len(ours), float(np.abs(ours - theirs).max()), flips, measure_latency(predictor))


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


def run_batches(predictor: Predictor, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The logits of many pixels, some at a time: (n, c)."""
    return np.concatenate([predictor.logits(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)])


def measure_latency(predictor: Predictor, repeats: int = 15) -> float:
    """Median milliseconds for one image of ready pixels."""
    pixels = predictor.read(draw_test_image())[None]
    times = []
    for _ in range(repeats):
        start = perf_counter()
        predictor.logits(pixels)
        times.append(perf_counter() - start)
    return median(times) * 1000


def _torch_logits(net: Classifier, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    with torch.inference_mode():
        parts = [net(torch.from_numpy(pixels[i : i + BATCH])) for i in range(0, len(pixels), BATCH)]
    return torch.cat(parts).numpy()
