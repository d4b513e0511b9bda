"""Models that change while the server answers: looked for, tried, exchanged; what is no good changes nothing."""

import ctypes
import logging
import sys
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from weakref import ref

from lesion.config.serving import ServeConfig
from lesion.errors import ArtifactError, LesionError, brief
from lesion.inference.predictor import Predictor
from lesion.inference.threads import usable_cpus
from lesion.inference.trial import try_out
from lesion.manifest import Manifest
from lesion.serve.canary import split_canary
from lesion.serve.slot import CANARY, LIVE, SHADOW, Serving, Slot
from lesion.serve.sources import Source

log = logging.getLogger(__name__)
SOON_S = 1.0  # between two looks while a model leaves


@dataclass(slots=True)
class Watch:
    """A role and where its model comes from."""

    role: str
    source: Source
    seen: Hashable
    """What `source.look` said before a model was last taken from there, or refused."""


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
    It is tried again when its source has changed, or when asked to.
    """

    def __init__(self, slot: Slot, watches: Sequence[Watch], settings: ServeConfig) -> None:
        self._slot, self._watches, self._settings = slot, watches, settings
        self._asked: SimpleQueue[bool] = SimpleQueue()  # True: look now; False: end
        self._leaving: list[ref[Predictor]] = []  # models that a request may still use

    def start(self, count: Callable[[bool], None]) -> None:
        """Begin; `count` is told of each change, whether it was done or refused."""
        Thread(target=self._run, args=(count,), name="reload", daemon=True).start()

    def ask(self) -> None:
        """Look at all sources now, also at what was refused before. May be called by a signal handler."""
        self._asked.put(True)

    def close(self) -> None:
        """Look no more."""
        self._asked.put(False)

    def _run(self, count: Callable[[bool], None]) -> None:
        asked = False
        while True:
            for watch in self._watches:
                self._look(watch, asked, count)
            every = self._settings.watch_s or None
            try:
                asked = self._asked.get(timeout=min(every or SOON_S, SOON_S) if self._leaving else every)
            except Empty:
                asked = False
            else:
                if not asked:
                    return
            if self._leaving and not any(each() for each in self._leaving):
                self._leaving.clear()
                _give_memory_back()

    def _look(self, watch: Watch, asked: bool, count: Callable[[bool], None]) -> None:
        try:
            seen = watch.source.look()
        except LesionError as error:  # the registry is away; that says nothing about the model
            if watch.seen != (seen := error.message) or asked:
                log.warning("the %s model stays, nobody knows of another: %s", watch.role, seen)
            watch.seen = seen
            return
        if seen == watch.seen and not asked:
            return
        watch.seen = seen
        try:
            serving = self._load(watch)
        except Exception as error:  # whatever it is, it must not end the thread
            self._refuse(watch.role, error)
            count(False)
        else:
            if serving is not None:
                self._exchange(serving)
                count(True)

    def _load(self, watch: Watch) -> Serving | None:
        """The model that is there now, ready to answer; None when it is the one that answers already."""
        artifact, before = watch.source.read(), self._slot.find(watch.role)
        if before is not None and before.wide.artifact.digest == artifact.digest:
            return None
        _require_classes(artifact.manifest, self._slot.pick().manifest, watch.role)
        try_out(artifact, self._settings.threads or usable_cpus())
        return Serving.start(artifact, self._settings, watch.role)

    def _exchange(self, serving: Serving) -> None:
        before = self._slot.put(serving)
        if before is not None:
            self._leaving.append(ref(before.wide))
        log.info("%s: %s answers now, before it %s", serving.role, serving.identity, before and before.identity)

    def _refuse(self, role: str, error: Exception) -> None:
        reason = error.message if isinstance(error, LesionError) else f"{type(error).__name__}: {brief(error)}"
        if role == LIVE:
            log.warning("another model was refused, %s answers on: %s", self._slot.pick().identity, reason)
        else:
            self._slot.drop(role)
            log.warning("there is no %s any more: %s", role, reason)


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
