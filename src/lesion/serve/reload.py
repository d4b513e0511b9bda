"""Models that change while the server answers: looked for, tried, exchanged; what is no good changes nothing."""

import ctypes
import errno
import logging
import sys
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic
from weakref import ref

from lesion.config.serving import ServeConfig
from lesion.errors import ArtifactError, LesionError, OutOfMemory, OutputError, RemoteError, StoreError, brief
from lesion.inference.predictor import Predictor
from lesion.inference.threads import usable_cpus
from lesion.inference.trial import try_out
from lesion.inference.watchdog import Step, Watchdog
from lesion.manifest import Manifest
from lesion.serve.canary import split_canary
from lesion.serve.slot import CANARY, LIVE, SHADOW, Serving, Slot
from lesion.serve.sources import Source

log = logging.getLogger(__name__)
SOON_S = 1.0  # between two looks while a model leaves, and before the first retry without `watch_s`
PAUSE_S = 60.0  # between two tries after an error that may pass, at most
LIMIT_S = 900.0  # of one look with all that follows: a slow download, then a trial on a busy machine
OF_THE_FILE = {errno.EFBIG, errno.EINVAL, errno.EISDIR}  # too large, not a regular one, a folder


@dataclass(slots=True)
class Watch:
    """A role and where its model comes from."""

    role: str
    source: Source
    seen: Hashable
    """What `source.look` said before a model was last taken from there, or refused for what it is."""
    pause_s: float = 0.0
    """After a passing error: seconds until the next try, doubled from one to the next; 0 without one."""
    next_try: float = 0.0
    """When that is, in seconds of `monotonic`."""


@dataclass(slots=True, eq=False)
class Look(Step):
    """One look at a source by the thread that does it."""

    is_over: bool = False
    is_lost: bool = False


def open_models(settings: ServeConfig, live: Source, find: Callable[[str], Source]) -> tuple[Slot, "Reloader"]:
    """Load the model that answers, the canary and the shadow; `find` says where one is that the settings name.

    Raises ConfigError for settings that do not work; what `find` does; ArtifactError or CheckFailed for a model that
    cannot be used, the canary's also when its classes are others.
    """
    sources, share = {LIVE: live}, 0.0
    if settings.canary:
        word, share = split_canary(settings.canary)
        sources[CANARY] = find(word)
    if settings.shadow:
        sources[SHADOW] = find(settings.shadow)
    # Looked at before it is read: whatever comes between the two is found by the next look.
    watches = [Watch(role, source, _look_first(source)) for role, source in sources.items()]
    servings = [Serving.start(each.source.read(), settings, each.role) for each in watches]
    for each in servings[1:]:
        _require_classes(each.manifest, servings[0].manifest, each.role)
    slot = Slot(*servings, share=share)
    return slot, Reloader(slot, watches, settings)


class Reloader:
    """A thread that looks at the sources every `watch_s` seconds, and at once when asked to.

    A model that cannot be used leaves the live one as it is; a canary or a shadow is off until there is a good one.
    It is tried again when its source has changed, or when asked to. After an error that may pass, such as too many open
    files or a registry that is away, every model stays, and the source is tried again after pauses of up to PAUSE_S.
    """

    def __init__(self, slot: Slot, watches: Sequence[Watch], settings: ServeConfig) -> None:
        self._slot, self._watches, self._settings = slot, watches, settings
        self._asked: SimpleQueue[bool] = SimpleQueue()  # True: look now; False: end
        self._leaving: list[ref[Predictor]] = []  # models that a request may still use
        self._count: Callable[[str], None] = lambda result: None
        self._watchdog = Watchdog()
        self._limit_s = LIMIT_S
        self._lock = Lock()
        self._threads: list[Thread] = []

    def start(self, count: Callable[[str], None], watchdog: Watchdog) -> None:
        """Begin.

        Args:
            count: Told of each change: "done", "refused", or "failed" for an error that may pass.
            watchdog: Has another thread take over from one that hangs in a look.
        """
        self._count, self._watchdog = count, watchdog
        self._go_on()

    def ask(self) -> None:
        """Look at all sources soon, also at what was refused before. May be called by a signal handler."""
        if self._asked.empty():  # several before the next look are one
            self._asked.put(True)

    def close(self) -> None:
        """Look no more."""
        self._asked.put(False)

    def join(self, seconds: float) -> bool:
        """Whether all threads have ended, for which it waits so long."""
        end = monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _go_on(self) -> None:
        thread = Thread(target=self._run, name="reload", daemon=True)
        thread.start()
        self._threads = [*(each for each in self._threads if each.is_alive()), thread]

    def _run(self) -> None:
        asked = False
        while True:
            for watch in self._watches:
                if not self._look(watch, asked):
                    return
            try:
                asked = self._asked.get(timeout=self._pause())
            except Empty:
                asked = False
            else:
                if not (asked and self._merge()):
                    return
            if self._leaving and not any(each() for each in self._leaving):
                self._leaving.clear()
                _give_memory_back()

    def _pause(self) -> float | None:
        """Seconds until the next look; None when only a signal leads to one."""
        every = [self._settings.watch_s] if self._settings.watch_s else []
        every += [SOON_S] if self._leaving else []
        every += [max(0.0, watch.next_try - monotonic()) for watch in self._watches if watch.pause_s]
        return min(every, default=None)

    def _merge(self) -> bool:
        """Let the next look do for all that asked by now; False when the thread is to end."""
        with suppress(Empty):
            while self._asked.get_nowait():
                pass
            return False
        return True

    def _look(self, watch: Watch, asked: bool) -> bool:
        """Look at a source if it is time to; False when that took too long, and another thread took over."""
        if not asked and (monotonic() < watch.next_try if watch.pause_s else not self._settings.watch_s):
            return True
        look = Look("reload", self._limit_s, self._give_up)
        self._watchdog.begin(look)
        try:
            self._take(watch, asked, look)
        except Exception as error:  # whatever it is, it must not end the thread
            self._retry(watch, error, look)
        return self._return(look)

    def _take(self, watch: Watch, asked: bool, look: Look) -> None:
        """Exchange the model when its source has another one; what is wrong with that one is noted, else it raises."""
        seen = watch.source.look()
        if seen == watch.seen and not asked:
            self._recover(watch)
            return
        try:
            serving = self._load(watch)
        except Exception as error:
            if look.is_lost or _may_pass(error, seen):
                raise
            watch.seen, watch.pause_s = seen, 0.0
            self._refuse(watch.role, error)
            self._count("refused")
            return
        with self._lock:
            if look.is_lost:
                return
            watch.seen = seen
            if serving is not None:
                self._exchange(serving)
                self._count("done")
        self._recover(watch)

    def _load(self, watch: Watch) -> Serving | None:
        """The model that is there now, ready to answer; None when it is the one that answers already."""
        artifact, before = watch.source.read(), self._slot.find(watch.role)
        if before is not None and before.wide.artifact.digest == artifact.digest:
            return None
        _require_classes(artifact.manifest, self._slot.pick().manifest, watch.role)
        try_out(artifact, self._settings.threads or usable_cpus())
        return Serving.start(artifact, self._settings, watch.role)

    def _retry(self, watch: Watch, error: Exception, look: Look) -> None:
        """Keep all models, and try again later; said at the first of several failures."""
        if look.is_lost:
            return
        if not watch.pause_s:
            log.warning("the %s model stays, another one cannot be had now: %s", watch.role, _reason(error))
        watch.pause_s = min(2 * watch.pause_s or self._settings.watch_s or SOON_S, PAUSE_S)
        watch.next_try = monotonic() + watch.pause_s
        self._count("failed")

    def _recover(self, watch: Watch) -> None:
        if watch.pause_s:
            watch.pause_s = 0.0
            log.info("the source of the %s model can be read again", watch.role)

    def _return(self, look: Look) -> bool:
        self._watchdog.end(look)
        with self._lock:
            look.is_over = True
            return not look.is_lost

    def _give_up(self, look: Step) -> bool:
        """Go on without the thread that hangs in a look; see `Step`."""
        assert isinstance(look, Look)
        with self._lock:
            if look.is_over:
                return False
            look.is_lost = True
        self._limit_s *= 2  # so that a source which hangs for good does not fill the process with threads
        self._go_on()
        return True

    def _exchange(self, serving: Serving) -> None:
        before = self._slot.put(serving)
        if before is not None:
            self._leaving.append(ref(before.wide))
        log.info("%s: %s answers now, before it %s", serving.role, serving.identity, before and before.identity)

    def _refuse(self, role: str, error: Exception) -> None:
        reason = _reason(error)
        if role == LIVE:
            log.warning("another model was refused, %s answers on: %s", self._slot.pick().identity, reason)
        else:
            self._slot.drop(role)
            log.warning("there is no %s any more: %s", role, reason)


def _reason(error: Exception) -> str:
    return error.message if isinstance(error, LesionError) else f"{type(error).__name__}: {brief(error)}"


def _may_pass(error: BaseException, seen: Hashable) -> bool:
    """Whether an error says nothing about the model, so that the same model may do later.

    That is so for every error of the system below it (no permission, too many open files, a disk or network that
    fails), for a store that is away or damaged, and for what nobody foresaw. A file that was missing already when the
    source was looked at (`seen` is None) is missing.
    """
    if not isinstance(error, LesionError) or isinstance(error, RemoteError | StoreError | OutputError | OutOfMemory):
        return True
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause.errno not in OF_THE_FILE and not (seen is None and cause.errno == errno.ENOENT)
        cause = cause.__cause__
    return False


def _look_first(source: Source) -> Hashable:
    try:
        return source.look()
    except LesionError as error:  # whether a model can be had all the same, `read` says
        return error.message


def _give_memory_back() -> None:
    """Glibc keeps for itself much of what a model leaves behind: without this, memory grows with each change."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def _require_classes(found: Manifest, live: Manifest, role: str) -> None:
    """ArtifactError when clients would be answered in other classes than before."""
    if role == SHADOW:
        return
    ours, theirs = ((sorted(each.taxonomy.labels), sorted(each.taxonomy.malignant)) for each in (live, found))
    if ours != theirs:
        raise ArtifactError(
            f"the {role} model {found.name!r} has the classes {', '.join(theirs[0])} (malignant: "
            f"{', '.join(theirs[1])}), clients are answered in {', '.join(ours[0])} (malignant: {', '.join(ours[1])})",
            hint="start a server of its own for it",
        )
