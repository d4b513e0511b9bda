"""A bulk prediction from its first image to its last, or to where it was stopped."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from lesion.errors import Interrupted, Terminated
from lesion.inference.bulk.items import Answer, Item, Unreadable
from lesion.inference.bulk.outputs import Earlier, Output
from lesion.progress import Progress, Silent
from lesion.records import Prediction

log = logging.getLogger(__name__)
Answering = Callable[[Iterable[Item | None]], Generator[Answer, None, None]]
SHOWN = 10  # unreadable images that are logged one by one


@dataclass(frozen=True, slots=True)
class PredictReport:
    """What a bulk prediction did."""

    output: str | None
    model: str
    images: int
    """Answers in this call, those for unreadable images included."""
    unreadable: int
    """Images without a prediction in the whole output."""
    earlier: int
    """Answers that the output held before."""
    seconds: float
    images_per_second: float


@dataclass(slots=True)
class Job:
    """Counts while it works."""

    answering: Answering
    output: Output
    earlier: Earlier = field(default_factory=Earlier)
    """What the output held before: it is not answered again, but what could not be read is tried again."""
    progress: Progress | None = None
    on_unreadable: Callable[[str], None] | None = None
    """Told the name of each image without a prediction, which may then come again among the items."""
    images: int = 0
    unreadable: int = 0
    seconds: float = 0.0
    stopped: Interrupted | None = None
    """Why it ended before its items did."""

    def run(self, items: Iterable[Item | None], total: int | None = None) -> None:
        """Answer `items`, of which there are `total` if that is known, and write the answers.

        Ctrl-C and SIGTERM end it in order and set `stopped`. Raises OutputError, and what the answering raises.
        """
        show = self.progress or Silent()
        if total is not None:
            show.begin("predict", total)
        start = time.monotonic()
        signals = _Signals()
        with signals.received():
            try:
                self._work(items, show, signals)
                self.output.finish()
            except KeyboardInterrupt:
                kind = Terminated if signal.SIGTERM in signals.caught else Interrupted
                self.stopped = kind(f"stopped after {self.images} images")
            finally:
                show.end()
                self.seconds = time.monotonic() - start

    def _work(self, items: Iterable[Item | None], show: Progress, signals: "_Signals") -> None:
        with closing(self.answering(self._skip(items, show))) as answers:
            for answer in answers:
                with signals.held():
                    self._take(answer)
                show.advance()

    def _take(self, answer: Answer) -> None:
        """Write an answer and count it, unless it only says again that an image cannot be read."""
        name, failed = answer.source, self.earlier.failed
        known = failed.strike(name)
        if isinstance(answer, Prediction) or not known:
            self.output.write(answer)
            self.images += 1
        if isinstance(answer, Prediction):
            if known:
                self._mend(name)
            return
        if not known:
            self._note(answer)
        if self.on_unreadable is not None:  # it may come again
            failed.note(name)
            self.on_unreadable(name)

    def _mend(self, name: str) -> None:
        """Let the prediction just written take the place of the error before it."""
        self.earlier.superseded.note(name)
        if self.earlier.unreadable:
            self.earlier.unreadable -= 1
            self.earlier.answers -= 1
        else:
            self.unreadable -= 1
            self.images -= 1

    def _skip(self, items: Iterable[Item | None], show: Progress) -> Iterator[Item | None]:
        for item in items:
            if item is not None and self.earlier.ledger.strike(item.name):
                show.advance()
            else:
                yield item

    def _note(self, answer: Unreadable) -> None:
        self.unreadable += 1
        if self.unreadable <= SHOWN:
            log.warning("no answer: %s", answer.error.message)
        elif self.unreadable == SHOWN + 1:
            log.warning("no answer: more, which the output names")

    def report(self, output: str | None, model: str) -> PredictReport:
        """What it did."""
        return PredictReport(
            output=output,
            model=model,
            images=self.images,
            unreadable=self.unreadable + self.earlier.unreadable,
            earlier=self.earlier.answers,
            seconds=self.seconds,
            images_per_second=self.images / self.seconds if self.seconds else 0.0,
        )


class _Signals:
    """Ctrl-C and SIGTERM end the work, but not between an answer's writing and its counting; a second one at once.

    Only the main thread receives signals.
    """

    def __init__(self) -> None:
        self.caught: list[int] = []
        self._held = False

    @contextmanager
    def received(self) -> Iterator[None]:
        """While the work is done."""
        before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:  # as of a job in the background
                    before[number] = signal.signal(number, self._receive)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """While an answer is written."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self.caught:
            raise KeyboardInterrupt

    def _receive(self, number: int, _: object) -> None:
        self.caught.append(number)
        if not self._held or len(self.caught) > 1:
            raise KeyboardInterrupt
