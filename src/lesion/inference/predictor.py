"""One model file answering for images; `predict`, `serve` and `eval` all ask here."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from PIL import Image

from lesion.artifact import Artifact
from lesion.errors import ArtifactError, CheckFailed
from lesion.images import decode_image, read_image, to_upright_rgb
from lesion.inference.decide import Floats, decide, to_malignant, to_probabilities
from lesion.inference.explain import to_heat
from lesion.inference.session import LIMIT_S, make_options, run_session, run_within, start_session
from lesion.inference.threads import usable_cpus
from lesion.manifest import Manifest
from lesion.memory import keep_freed_memory
from lesion.records import Prediction
from lesion.signature import Signer

Source = str | Path | bytes | Image.Image | npt.NDArray[np.uint8]
Pixels = npt.NDArray[np.uint8]
Singles = npt.NDArray[np.float32]
LOGITS, CHECKS, MAPS = "logits", "checks", "maps"
KEPT = 64 * 2**20  # bytes of freed memory: what a batch of photographs takes


@dataclass(frozen=True, slots=True)
class Answers:
    """What the graph computed for n images."""

    logits: Singles
    """(n, c)"""
    checks: Singles
    """(n, k), in the order of the manifest's checks."""
    maps: Singles | None
    """(n, c, h, w): what each position adds to each logit; None unless asked for."""


class Predictor:
    """A loaded, verified model. Thread-safe; holds no state between calls."""

    def __init__(self, artifact: Artifact, threads: int = 0, tta: bool = False) -> None:
        """Start a session of `threads` threads (0: as many as this process may use).

        Raises ArtifactError, CheckFailed or OutOfMemory as `inference.session.start_session` does.

        With `tta` (test-time augmentation) all that is computed is the mean over the eight symmetries of the square.
        """
        self.artifact = artifact
        self.manifest: Manifest = artifact.manifest
        self.tta = tta
        self._session = start_session(artifact.graph, threads or usable_cpus())
        _check_graph(self._session, self.manifest)

    @classmethod
    def load(
        cls,
        path: str | Path,
        threads: int = 0,
        tta: bool = False,
        self_test: bool = True,
        signer: str | Path | None = None,
    ) -> "Predictor":
        """Read, verify, start and self-test the model file at `path`.

        With `signer`, a PEM file of an Ed25519 public key, it must be signed with that key. Raises NotFoundError,
        ArtifactError (not ours, damaged, newer, not signed so), CheckFailed (answers differ here from those recorded at
        export, or take more than a minute) or OutOfMemory.

        With glibc the process then keeps up to 64 MiB of what it frees, which the next answer takes again.
        """
        keep_freed_memory(KEPT)
        predictor = cls(Artifact.read(Path(path), Signer.read(signer) if signer else None), threads, tta)
        if self_test:
            predictor.run_self_test()
        return predictor

    @property
    def identity(self) -> str:
        """name@sha of the file that answers, with "+tta" behind it when the answers are means over eight views."""
        return f"{self.artifact.identity}+tta" if self.tta else self.artifact.identity

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU runs the model; without one, onnxruntime for GPUs falls back to the CPU."""
        return "CUDAExecutionProvider" in self._session.get_providers()

    def run_self_test(self, limit_s: float = LIMIT_S) -> float:
        """How far a probability of the drawn test image is from the one recorded at export; also warms up.

        Raises CheckFailed when that is more than the manifest allows or takes more than `limit_s` seconds; OutOfMemory.
        """
        pixels, options = self.manifest.preprocess.apply(draw_test_image()), make_options()
        (logits,) = run_within(
            limit_s,
            lambda: self._run([LOGITS], pixels[None], options),
            f"{self.identity} did not end its self-test",
            stop=lambda: setattr(options, "terminate", True),
        )
        answer = to_probabilities(logits, self.manifest.temperature)[0]
        test = self.manifest.self_test
        difference = float(np.abs(answer - test.probabilities).max())
        if not difference <= test.tolerance:  # also when it is NaN
            raise CheckFailed(
                f"{self.identity} failed its self-test: a probability differs by {difference:.2g} from the one "
                f"recorded at export, at most {test.tolerance:.2g} expected",
                hint="export the model again on this machine, or use the fp32 file",
            )
        return difference

    def run(self, pixels: Pixels, maps: bool = False, options: ort.RunOptions | None = None) -> Answers:
        """Everything about uint8 pixels (n, size, size, 3), with `maps` where the network looks, too.

        To end the inference early, another thread sets `options.terminate`; this call then raises CheckFailed, as it
        does when the graph fails and, without `options`, when it takes more than a minute and 10 seconds for each
        image. Raises OutOfMemory when memory does not suffice.
        """
        names = [LOGITS, CHECKS, MAPS] if maps else [LOGITS, CHECKS]
        logits, checks, *rest = self._compute(names, pixels, options)
        return Answers(logits, checks, rest[0] if rest else None)

    def logits(self, pixels: Pixels) -> Singles:
        """The network's raw answer to uint8 pixels (n, size, size, 3), float32 (n, c)."""
        return self._compute([LOGITS], pixels)[0]

    def _compute(self, names: list[str], pixels: Pixels, options: ort.RunOptions | None = None) -> list[Singles]:
        if not self.tta:
            return self._run(names, pixels, options)
        turned = [self._run_turned(names, pixels, options, flip, turns) for flip in (1, -1) for turns in range(4)]
        return [np.asarray(np.mean(each, axis=0)) for each in zip(*turned, strict=True)]

    def _run_turned(
        self, names: list[str], pixels: Pixels, options: ort.RunOptions | None, flip: int, turns: int
    ) -> list[Singles]:
        """The answer to the pixels mirrored (`flip` of -1) and then turned; maps are turned back."""
        view = np.ascontiguousarray(np.rot90(pixels[:, :, ::flip], turns, (1, 2)))
        answers = self._run(names, view, options)
        return [np.rot90(each, -turns, (2, 3))[..., ::flip] if each.ndim == 4 else each for each in answers]

    def _run(self, names: list[str], pixels: Pixels, options: ort.RunOptions | None = None) -> list[Singles]:
        return run_session(self._session, names, pixels, options)

    def probabilities(self, pixels: Pixels) -> Floats:
        """Calibrated probabilities of uint8 pixels (n, size, size, 3): float64 (n, c)."""
        return to_probabilities(self.logits(pixels), self.manifest.temperature)

    def malignant(self, pixels: Pixels) -> Floats:
        """The malignant probability of uint8 pixels (n, size, size, 3): float64 (n,)."""
        return to_malignant(self.probabilities(pixels), self.manifest)

    def read(self, source: Source) -> Pixels:
        """Decode and preprocess a path, encoded bytes, a Pillow image, or an RGB uint8 (h, w, 3) array."""
        return self.manifest.preprocess.apply(_to_image(source))

    def predict(self, source: Source, name: str | None = None) -> Prediction:
        """The answer for one image; ImageError or NotFoundError when it cannot be used.

        `name` is the record's `source`; by default the path, or "image".
        """
        pixels = self.read(source)
        default = str(source) if isinstance(source, str | Path) else "image"
        return self.predict_pixels(pixels[None], [name or default])[0]

    def predict_pixels(self, pixels: Pixels, names: Sequence[str]) -> list[Prediction]:
        """The answers to uint8 pixels (n, size, size, 3), as `read` makes them, called `names`."""
        return self.decide_named(self.run(pixels), names)

    def explain(self, pixels: Pixels) -> Singles:
        """What each position of uint8 pixels (n, size, size, 3) adds to the log-odds of "malignant": (n, h, w).

        The grid is that of the network's last feature maps, coarser than the pixels.
        """
        answers = self.run(pixels, maps=True)
        assert answers.maps is not None
        return to_heat(answers.maps, answers.logits, self.manifest)

    def predict_many(self, sources: Sequence[str | Path], batch: int = 8) -> Iterator[Prediction]:
        """The answers in order; decoding of the next batch overlaps with inference. Raises like `predict`."""
        if batch < 1:
            raise ValueError(f"a batch of at least 1 expected, got {batch}")
        with ThreadPoolExecutor(2) as pool:
            # One batch ahead and no more: a long list must neither fill the memory nor delay an early end.
            coming = [pool.submit(self.read, source) for source in sources[:batch]]
            for start in range(0, len(sources), batch):
                end = start + batch
                pixels = np.stack([each.result() for each in coming])
                coming = [pool.submit(self.read, source) for source in sources[end : end + batch]]
                yield from self.predict_pixels(pixels, [str(source) for source in sources[start:end]])

    def decide(self, answers: Answers, names: Sequence[str]) -> list[Prediction]:
        """The records for what the graph computed; CheckFailed for NaN, which does not tell the name of the image."""
        probabilities = to_probabilities(answers.logits, self.manifest.temperature)
        return [
            decide(row, measures, name, self.manifest, self.identity)
            for row, measures, name in zip(probabilities, answers.checks, names, strict=True)
        ]

    def decide_named(self, answers: Answers, names: Sequence[str]) -> list[Prediction]:
        """As `decide`, with an error that names the image: for whoever may print names."""
        try:
            return self.decide(answers, names)
        except CheckFailed as error:
            finite = np.isfinite(to_probabilities(answers.logits, self.manifest.temperature)).all(axis=1)
            raise CheckFailed(f"{names[int(finite.argmin())]}: {error.message}", error.hint) from error


def draw_test_image() -> Image.Image:
    """The image of the self-test: 160×120, drawn by a formula in integers, so that it is the same everywhere."""
    y, x = np.mgrid[0:120, 0:160]
    inside = (x - 84) ** 2 + (y - 57) ** 2 * 2 < 2500
    channels = [
        np.where(inside, a + (x * y) % 23, b + (x * 3 + y * 5) % 31) for a, b in ((120, 205), (70, 160), (55, 140))
    ]
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


def _to_image(source: Source) -> Image.Image:
    if isinstance(source, bytes):
        return decode_image(source, "the image")
    if isinstance(source, Image.Image):
        return to_upright_rgb(source)
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
            raise ValueError(f"an RGB uint8 array (h, w, 3) expected, got {source.dtype} {source.shape}")
        return to_upright_rgb(Image.fromarray(source))
    return read_image(Path(source))


def _check_graph(session: Any, manifest: Manifest) -> None:
    size, classes = manifest.preprocess.size, len(manifest.taxonomy.labels)
    found = {each.name: [each.type, *each.shape[1:]] for each in (*session.get_inputs(), *session.get_outputs())}
    expected = {
        "pixels": ["tensor(uint8)", size, size, 3],
        LOGITS: ["tensor(float)", classes],
        CHECKS: ["tensor(float)", len(manifest.checks)],
        MAPS: ["tensor(float)", classes, *found.get(MAPS, [])[-2:]],  # on a grid of whatever size
    }
    if found != expected or len(found[MAPS]) != 4:
        raise ArtifactError(
            f"the graph does not fit its manifest: it has {found}, {expected} expected",
            hint="export the model again",
        )
