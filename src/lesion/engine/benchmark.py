"""A model file measured on this machine, beside PyTorch where that and the checkpoint are at hand."""

import json
import logging
import platform
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lesion import __version__
from lesion.artifact import Artifact
from lesion.errors import CheckFailed
from lesion.exports import BenchmarkReport, Figures
from lesion.inference.threads import usable_cpus
from lesion.machine import find_instructions, name_processor
from lesion.progress import Progress, Silent, track
from lesion.run import Run

log = logging.getLogger(__name__)
EXPORTED, EAGER = "lesion.inference.benchmark", "lesion.engine.eager"


def benchmark(model: Path, run: Run | None, progress: Progress | None = None) -> BenchmarkReport:
    """Measure `model`, its quantized twin in the same `run`, and that run in PyTorch; each in processes of its own.

    Raises NotFoundError or ArtifactError for what is no model, CheckFailed when a process fails.
    """
    artifact = Artifact.read(model)
    subjects = [(model.name, EXPORTED, model)]
    if run is not None and model == run.model and run.quantized.exists():
        subjects.append((run.quantized.name, EXPORTED, run.quantized))
    why_not = _miss_torch(run)
    if why_not is None and run is not None:
        subjects.append(("PyTorch eager", EAGER, run.path))
    else:
        log.info("PyTorch is not measured: %s", why_not)
    jobs = [(subject, kind) for subject in subjects for kind in ("memory", "speed")]
    found: dict[str, dict[str, Any]] = {}
    for (name, module, path), kind in track(progress or Silent(), jobs, len(jobs), "measure"):
        found.setdefault(name, {}).update(_run(module, kind, path))
    packages = ("onnxruntime", "pillow", *(("torch",) if why_not is None else ()))
    return BenchmarkReport(
        model=str(model),
        name=artifact.identity,
        size=artifact.manifest.preprocess.size,
        processor=name_processor(),
        instructions=find_instructions(),
        cores=usable_cpus(),
        versions={
            "python": platform.python_version(),
            "lesion": __version__,
            **{each: version(each) for each in packages},
        },
        figures=[Figures(name, **each) for name, each in found.items()],
    )


def _miss_torch(run: Run | None) -> str | None:
    """Why PyTorch cannot be measured; None when it can."""
    if find_spec("torch") is None or find_spec("torchvision") is None:
        return "it is not installed"
    if run is None:
        return "the model is not in the folder of its run"
    if not run.config.is_file() or run.find_best() is None:
        return f"{run.path} holds no checkpoint"
    return None


def _run(module: str, kind: str, path: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", module, kind, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        *_, last = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise CheckFailed(
            f"{path} could not be measured: {last}",
            hint="`lesion export --verify` says whether the file is sound",
        )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
