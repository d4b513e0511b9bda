"""Whatever ends a training is told in the user's words, with what is kept and how to go on."""

import errno
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lesion.config.schema import Config
from lesion.engine.custody import Custody, explain
from lesion.engine.interruption import Interruption
from lesion.errors import Interrupted, LesionError, NonFiniteError, OutOfMemory, OutputError, Terminated
from lesion.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, "x")


def fail(run: Run, error: BaseException, config: Config | None = None) -> None:
    with Custody(config or Config()) as custody:
        custody.lock(run)
        custody.begin(run, note=1)
        assert run.read_state()["status"] == "running"
        raise error


def real_allocation_failure() -> BaseException:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        real_allocation_failure(),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 64 bytes."),
    ],
    ids=["python", "CUDA", "CPU", "Windows"],
)
def test_out_of_memory_says_what_to_halve(error: BaseException, run: Run) -> None:
    config = Config()
    config.trainer.batch_size, config.trainer.accumulate = 48, 2
    with pytest.raises(OutOfMemory) as caught:
        fail(run, error, config)
    assert caught.value.exit_code == 71
    assert "trainer.batch_size=24 instead of 48" in caught.value.hint
    assert "trainer.accumulate=4 instead of 2" in caught.value.hint
    assert f"lesion train --resume {run.path}" in caught.value.hint
    assert run.read_state()["reason"] == caught.value.message


def test_one_image_a_step_cannot_be_halved() -> None:
    config = Config()
    config.trainer.batch_size = 1
    told = explain(MemoryError(), config, Interruption())
    assert isinstance(told, OutOfMemory)
    assert "preprocess.size below 224" in told.hint


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)])
def test_a_full_disk_wherever_it_is_met_is_exit_74(number: int, run: Run) -> None:
    with pytest.raises(OutputError, match="cannot write") as caught:
        fail(run, OSError(number, "No space left"))
    assert caught.value.exit_code == 74
    assert "free some space" in caught.value.hint


def test_a_failure_keeps_its_words_and_adds_what_is_kept(run: Run) -> None:
    with pytest.raises(NonFiniteError, match="the loss is nan") as caught:
        fail(run, NonFiniteError("the loss is nan", hint="lower optim.lr"))
    assert caught.value.hint.startswith("lower optim.lr; no epoch was finished; `lesion train --resume ")
    state = run.read_state()
    assert (state["status"], state["reason"], state["note"]) == ("failed", "the loss is nan", 1)
    (run.checkpoints / "epoch=01-val_loss=0.5000.ckpt").touch()
    run.write_state(epochs=2)
    with pytest.raises(NonFiniteError) as caught:
        fail(run, NonFiniteError("the loss is nan"))
    assert caught.value.hint.startswith("2 finished epochs are kept: `lesion train --resume ")
    assert f"`lesion export {run.path}`" in caught.value.hint


def test_a_bug_keeps_its_traceback_and_the_run_is_still_told(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(run, ZeroDivisionError("a bug"))
    assert run.read_state()["reason"] == "a bug"
    assert f"lesion train --resume {run.path}" in caplog.text


def test_a_path_with_a_blank_can_be_pasted(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "my runs", "x")
    with pytest.raises(LesionError) as caught:
        fail(run, LesionError("x"))
    assert f'--resume "{run.path}"' in caught.value.hint


def test_a_disk_too_full_for_run_json_still_tells_the_reason(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputError("cannot write run.json")

    def work() -> None:
        with Custody(Config()) as custody:
            custody.begin(run)
            monkeypatch.setattr(Run, "write_state", full)
            raise OutputError("the real reason")

    with pytest.raises(OutputError, match="the real reason"):
        work()


@pytest.mark.parametrize(
    ("number", "kind", "code"), [(signal.SIGINT, Interrupted, 130), (signal.SIGTERM, Terminated, 143)]
)
def test_a_signal_outside_the_steps_ends_at_once(number: int, kind: type[Interrupted], code: int, run: Run) -> None:
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    def work() -> None:
        with Custody(Config()) as custody:
            custody.begin(run)
            signal.raise_signal(number)
            pytest.fail("it went on")

    with pytest.raises(kind) as caught:
        work()
    assert (type(caught.value), caught.value.exit_code) == (kind, code)
    assert run.read_state()["status"] == "interrupted"
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_in_a_step_the_first_signal_waits_and_a_second_ctrl_c_does_not() -> None:
    with Interruption() as stop:
        stop.on_train_start(None, None)  # type: ignore[arg-type]
        stop.check()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # an impatient system changes nothing
        with pytest.raises(Terminated):
            stop.on_validation_batch_end()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        stop.close()
        signal.raise_signal(signal.SIGINT)
    assert isinstance(stop.error(), Terminated)


def test_in_another_thread_signals_stay_as_they_are() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with Interruption():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.slow
def test_ctrl_c_while_images_are_decoded_leaves_no_run(quick: Config, ham_copy: Path) -> None:
    from lesion.engine.train import train
    from lesion.progress import Silent

    class Impatient(Silent):
        def advance(self, steps: int = 1, **figures: float) -> None:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        train(replace(quick, data=replace(quick.data, root=str(ham_copy))), Impatient())
    assert list(Path(quick.runs).iterdir()) == []
