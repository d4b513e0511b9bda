"""The processes of a training on several devices or machines: how they meet, agree, and end together."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import lightning as L
from lightning.pytorch.strategies import ParallelStrategy, Strategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed
from torch.distributed import ProcessGroup, TCPStore  # type: ignore[attr-defined]

from lesion import errors
from lesion.engine.launch import Others
from lesion.errors import ConfigError, LesionError, RemoteError, brief
from lesion.run import Run

T = TypeVar("T")
log = logging.getLogger(__name__)
LOOK_S = 0.5  # between two looks at how the others are
HEAR_S = 5.0  # for the word of the one that failed, after a connection to it broke
ABORT_S = 3.0  # after a failure, before a process that still waits for others ends, or, the first, is torn from it
LEAVE_S = 20.0  # after that, before the first one ends, too
MEET = timedelta(minutes=30)  # all of them reach the same point
PREPARE = timedelta(hours=4)  # the first one decodes images, downloads weights, or exports
FAILED, LEFT = "failed", "left"


def is_first() -> bool:
    """Whether this process speaks for its training: true for every process that trains alone."""
    return not getattr(rank_zero_only, "rank", None)


class Ranks:
    """This process among those that train together: here, all alone."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank = rank
        self.world = world
        self.facts: dict[str, Any] = {}
        """For run.json, from a process that does not write it."""

    @property
    def first(self) -> bool:
        """Whether this process writes, logs and exports."""
        return self.rank == 0

    def broadcast(self, value: T | None = None) -> T:
        """The first process's value, in all of them; each has to ask."""
        return value  # type: ignore[return-value]

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first process does what is in the block, then all the others do."""
        if not self.first:
            self.broadcast()
        yield
        if self.first:
            self.broadcast(True)

    def settle(self, error: BaseException) -> BaseException:
        """What ends this process, when something ends one of them: the same for all."""
        return error

    def close(self) -> None:
        """Part."""


class Team(Ranks):
    """This process among several.

    Whoever fails first says why in a store that the first process holds. Each has a thread that looks there, and at
    the processes it started: what hangs in a call that waits for others is broken off, and at last ended.
    """

    def __init__(self, strategy: ParallelStrategy, command: Callable[[], list[str]]) -> None:
        """Start the other processes with what `command` returns unless a launcher has, and wait until all are there."""
        environment = strategy.cluster_environment
        assert environment is not None
        here, nodes = len(strategy.parallel_devices or []), int(getattr(strategy, "num_nodes", 1))
        super().__init__(environment.node_rank() * here + environment.local_rank(), here * nodes)
        if not self.first:
            logging.getLogger("lesion").setLevel(logging.ERROR)
        self._others = Others()
        self._store: TCPStore | None = None
        self._group: ProcessGroup | None = None
        self._closed = threading.Event()
        self._failed = False
        self._watch = threading.Thread(target=self._look_after, name="ranks", daemon=True)
        self._watch.start()
        try:
            if not environment.creates_processes_externally:
                self._others.start(environment, self.world, command())
            strategy.setup_environment()
            # Of the host, whatever trains: a process may wait here for long without a device's watchdog minding it.
            self._group = distributed.new_group(backend="gloo", timeout=PREPARE)  # type: ignore[assignment]
            self._store = self._open_store(environment.main_address)
        except BaseException:
            self._failed = True
            self.close()
            raise

    def broadcast(self, value: T | None = None) -> T:
        """The first process's value, pickled, in all of them; each has to ask."""
        box = [value]
        distributed.broadcast_object_list(box, 0, group=self._group)
        return box[0]  # type: ignore[return-value]

    def settle(self, error: BaseException) -> BaseException:
        """The failure that was told first, in all processes; those that only heard of it leave without a word."""
        if not isinstance(error, LesionError):
            error = self._trace(error)
        self._failed = True
        own = _pack(error, self.rank, self.facts)
        told = self._tell(own)
        self._abort()
        if told is None:  # nor can anybody be told that this process left
            self._store = None
        if told == own or (told is None and self.first):
            return error
        heard, facts = _unpack(told, self.world)
        self.facts.update(facts)
        return heard if self.first else SystemExit(getattr(heard, "exit_code", 1))

    def close(self) -> None:
        """Leave together: after a failure within a limited time."""
        deadline = time.monotonic() + HEAR_S
        if self._store is not None:
            with suppress(RuntimeError):  # the first is gone already
                left = self._store.add(LEFT, 1)
                while self.first and left < self.world and time.monotonic() < deadline and self._others.any_alive():
                    time.sleep(LOOK_S / 5)
                    left = self._store.add(LEFT, 0)
        self._others.end(max(1.0, deadline - time.monotonic()) if self._failed else MEET.total_seconds())
        self._closed.set()
        self._watch.join()
        # Their threads end with them, which must be before the interpreter does.
        with suppress(RuntimeError, ValueError, AssertionError):
            distributed.destroy_process_group()
        self._group = self._store = None

    def _open_store(self, host: str) -> TCPStore:
        timeout = timedelta(seconds=LEAVE_S)
        if not self.first:
            return TCPStore(host, self.broadcast(), timeout=timeout, wait_for_workers=False)
        store = TCPStore(host, 0, is_master=True, timeout=timeout, wait_for_workers=False)
        self.broadcast(store.port)
        return store

    def _trace(self, error: BaseException) -> BaseException:
        """`error`, or, where it is a broken connection that nobody else has explained, what it means."""
        until = time.monotonic() + HEAR_S
        while time.monotonic() < until and not self._heard():
            time.sleep(LOOK_S / 5)
        words = str(error).lower()
        if isinstance(error, RuntimeError) and any(name in words for name in ("gloo", "nccl", "connection", "aborted")):
            return _lost("another process of this training is gone")
        return error

    def _heard(self) -> bool:
        try:
            return self._store is not None and bool(self._store.check([FAILED]))
        except RuntimeError:  # the store is gone, and the first process with it
            return True

    def _tell(self, word: str) -> str | None:
        """The word of whoever failed first, perhaps this one; None when nobody can be asked."""
        try:
            return None if self._store is None else self._store.compare_set(FAILED, "", word).decode()
        except RuntimeError:
            return None

    def _abort(self) -> None:
        """Break off what waits, here and in those that wait for this process."""
        for group in (self._group, distributed.group.WORLD):
            if group is not None:
                with suppress(RuntimeError):
                    group.abort()

    def _look_after(self) -> None:
        while not self._closed.wait(LOOK_S) and not self._failed and not self._heard():
            for number, how in self._others.find_dead():
                self._tell(_pack(_lost(f"it {how}"), number, {}))
                self._failed = True
        if self._closed.wait(ABORT_S):
            return
        if self.first:
            self._abort()
            if self._closed.wait(LEAVE_S):
                return
            log.error("this process waits for another that is gone, and ends")
            self._others.end(0.0)
        error, _ = _unpack(self._tell(""), self.world)
        os._exit(error.exit_code)


@dataclass(frozen=True, slots=True)
class Followed(Run):
    """A run that another process writes: what this one has to add goes along with its error."""

    facts: dict[str, Any] = field(default_factory=dict)

    def write_state(self, **facts: Any) -> None:
        """Keep `facts` to be told."""
        self.facts.update(facts)


class SharedStatistics(L.Callback):
    """Before a validation each process takes the first one's statistics of normalisations: those that are kept."""

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After the moving average took its place, so behind it among the callbacks."""
        if trainer.world_size > 1:
            for buffer in pl_module.buffers():
                distributed.broadcast(buffer, 0)


def gather(strategy: Strategy, command: Callable[[], list[str]]) -> Ranks:
    """Meet the other processes of a training with `strategy`; what `command` returns starts them if nobody else has.

    Raises ConfigError when the launcher started another number of them than the configuration asks for, or for a
    strategy that forks.
    """
    if isinstance(strategy.launcher, _MultiProcessingLauncher):
        raise ConfigError(
            "trainer.strategy: processes are started anew, not forked or spawned from this one",
            hint="set trainer.strategy=ddp; in a notebook, train on one device or run `!lesion train`",
        )
    environment = getattr(strategy, "cluster_environment", None)
    if not isinstance(strategy, ParallelStrategy) or environment is None:
        return Ranks()
    devices, nodes = len(strategy.parallel_devices or []), int(getattr(strategy, "num_nodes", 1))
    if devices * nodes == 1:
        return Ranks()
    try:
        environment.validate_settings(devices, nodes)
    except ValueError as error:
        raise ConfigError(
            f"trainer.devices: {devices} a machine, on {nodes} machines, are not as many as processes were started",
            hint="leave trainer.devices out: it follows torchrun and SLURM",
        ) from error
    return Team(strategy, command)


def _lost(what: str) -> RemoteError:
    return RemoteError(what, hint="its own last words say why; one that was killed without any may have lacked memory")


def _pack(error: BaseException, rank: int, facts: dict[str, Any]) -> str:
    known = isinstance(error, LesionError)
    kind = type(error).__name__ if known else LesionError.__name__
    words = {"message": getattr(error, "message", brief(error)), "hint": getattr(error, "hint", "")}
    return json.dumps({"rank": rank, "kind": kind, **words, "facts": facts})


def _unpack(told: str | None, world: int) -> tuple[LesionError, dict[str, Any]]:
    if not told:
        return _lost("the first process of this training is gone"), {}
    word = json.loads(told)
    kind = getattr(errors, word["kind"], LesionError)
    return kind(f"in process {word['rank'] + 1} of {world}: {word['message']}", hint=word["hint"]), word["facts"]
