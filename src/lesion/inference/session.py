"""An ONNX Runtime session: started and run within limits of time, its failures told as errors of ours."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from threading import Event, Thread
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from lesion.errors import ArtifactError, CheckFailed, LesionError, OutOfMemory, brief
from lesion.inference.watchdog import Step, Watchdog

T = TypeVar("T")
LIMIT_S = 60.0
"""For a session to start, and for one self-test. The largest network takes some seconds on a busy machine."""
IMAGE_S = 10.0
"""In addition for each image of an inference."""
FATAL = 4  # to onnxruntime; what it says goes straight to stderr, which in a server may be a pipe that nobody reads
_GRACE_S = 5.0  # for an inference to end after it was told to
_watchdog = Watchdog()  # to hand each inference to a thread of its own would cost 0.3 ms


def start_session(graph: bytes, threads: int, limit_s: float = LIMIT_S) -> Any:
    """Start a session for `graph` with `threads` threads.

    Raises ArtifactError when ONNX Runtime cannot run the graph, CheckFailed when that takes longer than `limit_s`
    seconds, OutOfMemory when memory or threads do not suffice.
    """
    _require_threads(threads)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL  # what is an error is raised, too
    # Not by what the bytes look like: whatever was checked, was checked as ONNX.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return run_within(
            limit_s, lambda: ort.InferenceSession(graph, options, providers=_providers()), "the model did not start"
        )
    except LesionError:
        raise
    except Exception as error:  # onnxruntime raises a class of its own per failure
        raise _lack_of_memory(error) or ArtifactError(
            f"onnxruntime {ort.__version__} cannot run the model: {_tell(error)}",
            hint="export the model again with this version of lesion",
        ) from error


def run_session(
    session: Any, names: Sequence[str], pixels: npt.NDArray[np.uint8], options: ort.RunOptions | None = None
) -> list[npt.NDArray[np.float32]]:
    """Compute the outputs called `names`.

    Raises CheckFailed when the graph fails and, without `options`, when it takes more than LIMIT_S and IMAGE_S for each
    image; OutOfMemory when memory is short.
    """
    if options is None:
        return _run_in_time(session, names, pixels)
    try:
        return [np.asarray(each, np.float32) for each in session.run(names, {"pixels": pixels}, options)]
    except Exception as error:  # as above
        raise _lack_of_memory(error) or CheckFailed(
            f"the model did not answer: {_tell(error)}", hint="check it with `lesion export --verify MODEL`"
        ) from error


def make_options() -> ort.RunOptions:
    """Options for one inference, which another thread can end."""
    options = ort.RunOptions()
    options.log_severity_level = FATAL
    return options


def _run_in_time(session: Any, names: Sequence[str], pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
    options, limit_s = make_options(), LIMIT_S + IMAGE_S * len(pixels)

    def stop(step: Step) -> bool:
        options.terminate = True
        return False  # the thread ends, and the error below tells of it

    step = Step("infer", limit_s, stop)
    _watchdog.begin(step)
    try:
        return run_session(session, names, pixels, options)
    except CheckFailed as error:
        if step.age_s < limit_s:
            raise
        raise CheckFailed(
            f"the model did not answer within {limit_s:g} s", hint="do not use it: it may never answer"
        ) from error
    finally:
        _watchdog.end(step)


def run_within(limit_s: float, work: Callable[[], T], complaint: str, stop: Callable[[], None] | None = None) -> T:
    """Return what `work` does, in a thread of its own; CheckFailed with `complaint` after `limit_s` seconds.

    Raises OutOfMemory when there can be no further thread.

    `stop` is then called, to end it. A thread that does not end stays behind; the process can end all the same.
    """
    done: Future[T] = Future()
    _start_threads(1, _fulfil, done, work)
    if not wait([done], limit_s).done:
        if stop is not None:
            stop()
            wait([done], _GRACE_S)
        raise CheckFailed(f"{complaint} within {limit_s:g} s", hint="do not use it: it may never answer")
    return done.result()


def _fulfil(done: "Future[T]", work: Callable[[], T]) -> None:
    try:
        done.set_result(work())
    except BaseException as error:  # it belongs to who waits
        done.set_exception(error)


def _require_threads(count: int) -> None:
    """OutOfMemory unless this process can have `count` more threads.

    onnxruntime waits for ever when it can start the first of its threads but not all of them.
    """
    ended = Event()
    try:
        _start_threads(count, ended.wait)
    finally:
        ended.set()


def _start_threads(count: int, target: Callable[..., object], *args: object) -> list[Thread]:
    try:
        threads = [Thread(target=target, args=args, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
    except (RuntimeError, MemoryError) as error:
        raise OutOfMemory(
            f"cannot start {count} more threads for the model: {brief(error)}",
            hint="use fewer with `--threads 1` or serve.threads=1, or allow more: `ulimit -u`, or the container's pids",
        ) from error
    return threads


def _lack_of_memory(error: Exception) -> OutOfMemory | None:
    """The error when memory did not suffice; None for any other failure."""
    said = str(error)
    if isinstance(error, MemoryError) or any(each in said for each in ("bad_alloc", "bad allocation", "to allocate")):
        return OutOfMemory(
            f"the memory does not suffice for the model: {_tell(error)}",
            hint="free memory, or use a smaller batch or model; a model that needs far more than its size is faulty",
        )
    return None


def _tell(error: Exception) -> str:
    return brief(error)[:500]  # a graph can have names of any length


def _providers() -> list[str]:
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    return [name for name in wanted if name in ort.get_available_providers()]
