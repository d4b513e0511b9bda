"""Who may come in: a bounded queue, refused at once when it is full, and nobody once the server is about to stop."""

from lesion.errors import Overloaded
from lesion.serve.pipeline import STUCK_S, Pipeline


class Draining(Overloaded):
    """The server is about to stop."""


class TooLate(Overloaded):
    """An answer was not ready in time."""


RETRY_S = 300.0  # at most, in an answer's Retry-After


class Gate:
    """Looks at the pipeline's load: `queue` images may wait beside those that its threads work on."""

    def __init__(self, pipeline: Pipeline, queue: int, deadline_s: float) -> None:
        self.draining = False
        """Whether the server is about to stop."""
        self._pipeline = pipeline
        self._most = queue + pipeline.threads
        self._deadline_s = deadline_s

    @property
    def is_open(self) -> bool:
        """Whether another image would be let in."""
        return not (self.draining or self._pipeline.is_stuck) and self._pipeline.load < self._most

    @property
    def is_stuck(self) -> bool:
        """Whether all threads of the pipeline hang."""
        return self._pipeline.is_stuck

    @property
    def wait_s(self) -> float:
        """Estimated seconds until an image that came in now would be answered."""
        return self._pipeline.service_s * (self._pipeline.load + 1)

    def require_room(self, images: int = 1) -> None:
        """Overloaded unless so many images may come in now, and be answered before their deadline."""
        if self.draining:
            raise Draining("the server is about to stop", hint="ask again; another one may answer")
        if self._pipeline.is_stuck:
            raise Overloaded("all threads of the server hang", hint="ask again later", retry_after_s=STUCK_S)
        load = self._pipeline.load
        if load + images > self._most or (load and self.wait_s > self._deadline_s):
            raise Overloaded(
                f"{load} images wait already", hint="ask again later", retry_after_s=min(self.wait_s, RETRY_S)
            )
