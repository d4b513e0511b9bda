"""One process's hold on a run: alone, and with a true word in run.json on how it ended."""

import logging
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from lesion.config.load import to_yaml
from lesion.config.schema import Config
from lesion.engine.checkpoint import epoch_of, list_checkpoints
from lesion.engine.interruption import Interruption
from lesion.engine.launch import worker_command
from lesion.engine.ranks import Ranks, gather
from lesion.engine.trainer import make_trainer
from lesion.errors import Interrupted, LesionError, OutOfMemory, OutputError, brief
from lesion.files import FULL
from lesion.run import Run, now

log = logging.getLogger(__name__)
NO_MEMORY = ("DefaultCPUAllocator", "out of memory", "not enough memory")  # what torch's allocators say


class Custody:
    """A context around a training.

    Signals end it in an orderly way, and what ends it early is told in the user's words, with what is kept and how to
    go on; run.json says so, too.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.stop = Interruption()
        self.ranks = Ranks()
        """The processes that train together."""
        self._run: Run | None = None
        self._stack = ExitStack()

    def __enter__(self) -> "Custody":
        self._stack.enter_context(self.stop)
        return self

    def gather(self, *options: str) -> Ranks:
        """Meet the other processes of this training, if `trainer.devices` or a launcher asks for any.

        Those that are started here run `lesion train` with `options`.
        """
        strategy = make_trainer(self.config, Path(), [], [], enable_checkpointing=False).strategy
        with ExitStack() as command:  # no temporary file for a training on one device
            self.ranks = gather(strategy, lambda: command.enter_context(worker_command(to_yaml(self.config), *options)))
        self._stack.callback(self.ranks.close)
        return self.ranks

    def lock(self, run: Run) -> None:
        """Keep other processes from `run`; OutputError when one has it."""
        self._stack.enter_context(run.lock())

    def begin(self, run: Run, **facts: Any) -> None:
        """From here on run.json tells how it ends."""
        run.write_state(status="running", reason=None, ended=None, **facts)
        self._run = run

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        with self._stack:
            if error is None:
                return
            self.stop.close()
            told = self.ranks.settle(explain(error, self.config, self.stop))
            if self._run is not None:
                told = _note(self._run, told, self.ranks.facts)
            if told is not error:
                raise told from error


def explain(error: BaseException, config: Config, stop: Interruption) -> BaseException:
    """The same in the user's words: a signal, a full disk, too little memory; anything else stays as it is."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return stop.error()
    if isinstance(error, OSError) and error.errno in FULL:
        return OutputError(f"cannot write: {error.strerror}", hint="free some space")
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    ):
        size, accumulate = config.trainer.batch_size, config.trainer.accumulate
        smaller = (
            f"trainer.batch_size={size // 2} instead of {size}, and with trainer.accumulate={accumulate * 2} instead "
            f"of {accumulate} to change the weights as before"
            if size > 1
            else f"preprocess.size below {config.preprocess.size}"
        )
        return OutOfMemory(f"out of memory: {brief(error)}", hint=f"start a new run with {smaller}")
    return error


def _note(run: Run, error: BaseException, facts: dict[str, Any]) -> BaseException:
    remains = _remains(run)
    with suppress(OutputError):  # on a full disk the reason still reaches the terminal
        status = "interrupted" if isinstance(error, Interrupted) else "failed"
        run.write_state(status=status, reason=str(error) or repr(error), ended=now(), **facts)
    if not isinstance(error, LesionError):
        log.error("%s", remains)
        return error
    return type(error)(error.message, hint=f"{error.hint}; {remains}" if error.hint else remains)


def _remains(run: Run) -> str:
    where = f'"{run.path}"' if " " in str(run.path) else str(run.path)
    kept = list_checkpoints(run)
    if not kept:
        return f"no epoch was finished; `lesion train --resume {where}` starts it again"
    epochs = run.read_state().get("epochs") or epoch_of(kept[0]) + 1
    return (
        f"{epochs} finished epochs are kept: `lesion train --resume {where}` goes on after them, "
        f"`lesion export {where}` makes a model of the best so far"
    )
