"""A model tried in a process of its own, so that one which crashes, hangs or fills the memory harms no other.

`python -m lesion.inference.trial THREADS < model.onnx` prints one JSON object: the `difference` found by the self-test,
or the error.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from lesion import errors
from lesion.artifact import Artifact
from lesion.errors import CheckFailed, LesionError, OutOfMemory
from lesion.inference.predictor import Predictor

LIMIT_S = 150.0  # more than a session's start and its self-test may take each
CGROUP = Path("/sys/fs/cgroup/memory.max")


def try_out(artifact: Artifact, threads: int) -> float:
    """Start `artifact` and run its self-test in a new process; what `Predictor.run_self_test` returns.

    Takes about half a second. Raises what `Predictor` and its self-test do, CheckFailed for a model that crashes the
    process or keeps it busy for LIMIT_S. On Linux the process may take as much memory as the machine or container has.
    """
    signature = artifact.signature  # packed again with it, the file has the same digest
    _, content = Artifact.pack(artifact.graph, artifact.manifest, None if signature is None else lambda _: signature)
    command = [sys.executable, "-P", "-m", __name__, str(threads)]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise CheckFailed(f"{artifact.identity} did not end its self-test within {LIMIT_S:g} s") from error
    try:
        said = json.loads(done.stdout)
    except ValueError:
        raise CheckFailed(_describe_crash(artifact.identity, done)) from None
    if "error" in said:
        raise getattr(errors, said["error"])(said["message"], said["hint"])
    return float(said["difference"])


def usable_memory(limit: Path = CGROUP) -> int | None:
    """Bytes of memory of the machine or, if that is less, of the container; None where the system does not tell."""
    if not hasattr(os, "sysconf"):  # Windows
        return None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no cgroup v2, or "max"
        memory = min(memory, int(limit.read_text("ascii")))
    return memory


def main() -> None:
    """Try the model on stdin."""
    with suppress(OSError):  # if memory runs out, Linux is to end this process, not the server
        Path("/proc/self/oom_score_adj").write_text("1000")
    _limit_memory()
    try:
        difference = Predictor(Artifact.unpack(sys.stdin.buffer.read()), int(sys.argv[1])).run_self_test()
    except MemoryError:
        _fail(OutOfMemory("the memory does not suffice for the model"))
    except LesionError as error:
        _fail(error)
    else:
        sys.stdout.write(json.dumps({"difference": difference}))


def _limit_memory() -> None:
    """Let an allocation fail that the machine has no memory for, instead of the machine."""
    memory = usable_memory()
    if memory is not None and sys.platform == "linux":
        import resource

        # Not RLIMIT_AS: a GPU's driver reserves far more address space than there is memory.
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        soft = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _fail(error: LesionError) -> None:
    sys.stdout.write(json.dumps({"error": type(error).__name__, "message": error.message, "hint": error.hint}))
    sys.exit(error.exit_code)


def _describe_crash(identity: str, done: "subprocess.CompletedProcess[bytes]") -> str:
    # Windows knows no signals, there a code says what it was.
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode:#x}"
    said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return f"{identity} crashed the process that tried it, with {how}" + (f": {said[:500]}" if said else "")


if __name__ == "__main__":
    main()
