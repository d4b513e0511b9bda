"""The models that answer, and the one place where they are exchanged."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lesion.artifact import Artifact
from lesion.config.serving import ServeConfig
from lesion.inference.predictor import Predictor
from lesion.inference.threads import usable_cpus
from lesion.manifest import Manifest
from lesion.serve.canary import falls_to_canary
from lesion.serve.drift import Drift

LIVE, CANARY, SHADOW = "live", "canary", "shadow"


@dataclass(frozen=True, slots=True, eq=False)
class Serving:
    """A loaded, tested, warm model; its memory is free when the last request that uses it has ended."""

    wide: Predictor
    """All threads for one image: the fastest answer while there is little else to do."""
    narrow: Predictor
    """One thread per image, several images at once: the most answers while there is much to do."""
    drift: Drift
    """What it saw lately, against what it was validated with."""
    role: str
    """LIVE, CANARY or SHADOW: what metrics call it."""

    @property
    def identity(self) -> str:
        """name@sha of its file."""
        return self.wide.identity

    @property
    def manifest(self) -> Manifest:
        """What its file says about it."""
        return self.wide.manifest

    @classmethod
    def load(cls, path: Path, settings: ServeConfig, role: str = LIVE) -> Self:
        """Read, verify, self-test and warm up the file at `path`.

        Raises NotFoundError, ArtifactError or CheckFailed, as `Predictor.load` does.
        """
        return cls.start(Artifact.read(path), settings, role)

    @classmethod
    def start(cls, artifact: Artifact, settings: ServeConfig, role: str) -> Self:
        """Self-test and warm up an intact model; raises ArtifactError or CheckFailed."""
        threads = settings.threads or usable_cpus()
        wide = Predictor(artifact, threads)
        narrow = wide if threads == 1 or wide.on_gpu else Predictor(artifact, 1)
        for each in {wide, narrow}:
            each.run_self_test()
        drift = Drift(wide.manifest, settings.drift_window, settings.drift_alert)
        return cls(wide, narrow, drift, role)


class Slot:
    """Holds the models by role. A request picks once, so that one model gives all of its answer. Thread-safe."""

    def __init__(self, live: Serving, *others: Serving, share: float = 0.0) -> None:
        """Args: the models, each of another role; share, of the requests that the canary answers."""
        self._servings = {each.role: each for each in (live, *others)}
        self._share = share

    @property
    def identities(self) -> dict[str, str]:
        """Role → name@sha."""
        return {each.role: each.identity for each in tuple(self._servings.values())}

    def pick(self, request: str | None = None) -> Serving:
        """The live model or, if it falls to the canary, that one for the new request with this id."""
        canary = self._servings.get(CANARY)
        if canary and request and falls_to_canary(request, self._share):
            return canary
        return self._servings[LIVE]

    def find(self, role: str) -> Serving | None:
        """The model of that role."""
        return self._servings.get(role)

    def put(self, serving: Serving) -> Serving | None:
        """Let `serving` have its role from the next request on; returns the one before it."""
        before = self._servings.get(serving.role)
        self._servings[serving.role] = serving
        return before

    def drop(self, role: str) -> None:
        """Have no canary, or no shadow, any more."""
        self._servings.pop(role, None)
