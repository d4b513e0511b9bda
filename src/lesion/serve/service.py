"""What the routes share: one of each part of the server."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from lesion.config.serving import ServeConfig
from lesion.errors import TooManyRequests
from lesion.inference.watchdog import Watchdog
from lesion.serve.admission import Gate
from lesion.serve.clients import header
from lesion.serve.limits import Limiter
from lesion.serve.metrics import Metrics
from lesion.serve.pipeline import Pipeline
from lesion.serve.problems import Refused
from lesion.serve.reload import Reloader
from lesion.serve.shadow import Shadow
from lesion.serve.slot import Slot
from lesion.serve.tokens import Tokens
from lesion.serve.tracing import Tracing
from lesion.serve.uploads import Intake

if TYPE_CHECKING:
    from lesion.serve.journal import Journal

RETRY_S = 86_400.0  # at most, in the Retry-After of a client that asks too often


@dataclass(slots=True)
class Service:
    """The parts of one server."""

    settings: ServeConfig
    slot: Slot
    pipeline: Pipeline
    gate: Gate
    intake: Intake
    limiter: Limiter
    metrics: Metrics
    tokens: Tokens | None
    journal: "Journal | None"
    tracing: Tracing
    shadow: Shadow
    reloader: Reloader | None
    watchdog: Watchdog
    end_by: float | None = None
    """When the process has to have ended, in seconds of `monotonic`; None while nobody asked it to."""

    def authorize(self, request: Request) -> None:
        """Unauthorized without a valid token, where tokens are asked for; Refused when another site's page asks."""
        scope = request.scope
        if self.tokens is not None:
            scope["state"]["token"] = self.tokens.check(header(scope, b"authorization"))
        elif header(scope, b"sec-fetch-site") == "cross-site" and header(scope, b"origin") not in self.settings.origins:
            raise Refused(403, "cross_site", "pages of other sites may not ask here", hint="add it to serve.origins")

    async def count(self, request: Request, images: int) -> None:
        """TooManyRequests when the client has sent as many images as it may: its token's, else its address'."""
        state = request.scope["state"]
        wait_s = await self.limiter.take(state.get("token") or state["client"], images)
        if wait_s > 0:
            raise TooManyRequests(
                "too many images in a short time", hint="ask again later", retry_after_s=min(wait_s, RETRY_S)
            )
