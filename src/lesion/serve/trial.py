"""A model tried in a process of its own, so that one which crashes, hangs or fills the memory does not end the server.

`python -m lesion.serve.trial THREADS < model.onnx` ends with 0 when the model passes its self-test.
"""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from lesion.artifact import Artifact
from lesion.errors import CheckFailed, LesionError
from lesion.inference.predictor import Predictor

LIMIT_S = 120.0  # a busy machine is slow


def try_out(artifact: Artifact, threads: int) -> None:
    """CheckFailed unless `artifact` passes its self-test in a new process within LIMIT_S."""
    _, content = Artifact.pack(artifact.graph, artifact.manifest)
    command = [sys.executable, "-P", "-m", __name__, str(threads)]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise CheckFailed(f"{artifact.identity} did not end its self-test within {LIMIT_S:g} s") from error
    said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    if done.returncode < 0 or (done.returncode and not said):  # Windows knows no signals, a code says what it was
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode:#x}"
        raise CheckFailed(f"{artifact.identity} crashed the process that tried it, with {how}")
    if done.returncode:
        raise CheckFailed(said)


def main() -> None:
    """Try the model on stdin."""
    with suppress(OSError):  # if memory runs out, Linux is to end this process, not the server
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        Predictor(Artifact.unpack(sys.stdin.buffer.read()), int(sys.argv[1])).run_self_test()
    except LesionError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
