"""How much memory a process needs to answer with a model file."""

import subprocess
import sys
import tempfile
from pathlib import Path

from lesion.artifact import Artifact

PROGRAM = """
import sys
from pathlib import Path
from lesion.inference.predictor import Predictor, draw_test_image
predictor = Predictor.load(sys.argv[1])
predictor.predict(draw_test_image())
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def measure_memory(artifact: Artifact) -> int | None:
    """Bytes at most in use of a process that loads the file and answers once; None where the system does not tell."""
    if not Path("/proc/self/status").exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(Artifact.pack(artifact.graph, artifact.manifest)[1])
        done = subprocess.run([sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, check=False)
    return int(done.stdout) * 1024 if done.returncode == 0 else None
