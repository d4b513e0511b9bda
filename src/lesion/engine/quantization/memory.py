"""How much memory a process needs to answer with a model file."""

import json
import subprocess
import sys

from lesion.artifact import Artifact
from lesion.files import temporary_folder


def measure_memory(artifact: Artifact) -> int | None:
    """Bytes at most in use of a process that loads the file and answers once; None where the system does not tell."""
    with temporary_folder() as folder:
        path = folder / "model.onnx"
        path.write_bytes(Artifact.pack(artifact.graph, artifact.manifest)[1])
        command = [sys.executable, "-m", "lesion.inference.benchmark", "memory", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    memory: int | None = json.loads(done.stdout)["memory"] if done.returncode == 0 else None
    return memory
