"""The HTTP face of a model file."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from lesion.config.serving import ServeConfig
from lesion.errors import LesionError
from lesion.inference.threads import usable_cpus
from lesion.inference.watchdog import Watchdog
from lesion.serve.admission import Gate
from lesion.serve.frame import Frame
from lesion.serve.limits import make_limiter
from lesion.serve.metrics import Metrics
from lesion.serve.openapi import describe, describe_predict, describe_probe
from lesion.serve.pipeline import Pipeline
from lesion.serve.predictions import Predictions
from lesion.serve.probes import Probes
from lesion.serve.problems import answer_error, answer_http_error
from lesion.serve.reload import Reloader
from lesion.serve.service import Service
from lesion.serve.shadow import Shadow
from lesion.serve.slot import Slot
from lesion.serve.static import Page
from lesion.serve.tokens import Tokens
from lesion.serve.tracing import open_tracing
from lesion.serve.uploads import Intake

if TYPE_CHECKING:
    from lesion.serve.journal import Journal

log = logging.getLogger(__name__)
OVERRUN_S = 5.0  # that a step may take beyond `serve.deadline_s`, before its thread is given up
CLOSE_S = 2.0  # to write what waits for the journal, at the end


def create_app(slot: Slot, settings: ServeConfig, reloader: Reloader | None = None) -> FastAPI:
    """The application around the models in `slot`; errors answer as problem details without internals.

    `app.state.service` is what its routes share. Raises ConfigError for settings that do not work, NotFoundError
    without the file of tokens.
    """
    service = open_service(slot, settings, reloader)
    app = FastAPI(title="lesion", openapi_url=None, redirect_slashes=False, lifespan=_live)
    app.state.service = service
    predictions, probes = Predictions(service), Probes(service)
    for prefix, shown in (("/v1", True), ("", False)):
        router = APIRouter(prefix=prefix, include_in_schema=shown, default_response_class=Response)
        post, get = partial(router.post, response_model=None), partial(router.get, response_model=None)
        post("/predict", **describe_predict(several=False))(predictions.predict)
        post("/predict/batch", **describe_predict(several=True))(predictions.predict_batch)
        get("/model", **describe_probe("Model", 401, 403))(probes.model)
        get("/drift", **describe_probe("Drift", 401, 403))(probes.drift)
        app.include_router(router)
    app.get("/livez", **describe_probe("Status"))(probes.livez)
    app.get("/readyz", **describe_probe("Status", 503))(probes.readyz)
    app.get("/metrics", **describe_probe(None, 401, 403))(probes.metrics)
    if settings.page:
        app.include_router(Page(service.intake.max_bytes).router)
    document = describe(app)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> Response:
        return JSONResponse(document)

    app.add_exception_handler(LesionError, answer_error)
    app.add_exception_handler(HTTPException, answer_http_error)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-request-id"],
            expose_headers=["x-request-id", "retry-after"],
        )
    direct = {} if settings.origins else {f"{prefix}/predict": predictions.predict for prefix in ("/v1", "")}
    app.add_middleware(Frame, service=service, direct=direct)  # the last one is the outermost
    return app


def open_service(slot: Slot, settings: ServeConfig, reloader: Reloader | None) -> Service:
    """The parts of the server that `settings` describe; raises as `create_app` does."""
    logging.getLogger("PIL").setLevel(logging.INFO)  # below, it shows what stands in an image's metadata
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it warns of what clients send wrong
    threads = settings.threads or usable_cpus()
    metrics, journal = Metrics(), _open_journal(settings.journal)
    watchdog, limit_s = Watchdog(metrics.count_overrun), settings.deadline_s + OVERRUN_S
    lanes = 1 if slot.pick().wide.on_gpu else threads
    pipeline = Pipeline(threads, lanes, settings.max_batch, limit_s, watchdog, metrics.show_queue)
    return Service(
        settings=settings,
        slot=slot,
        pipeline=pipeline,
        gate=Gate(pipeline, settings.queue, settings.deadline_s),
        intake=Intake(int(settings.max_upload_mb * 2**20)),
        limiter=make_limiter(settings.rate, settings.burst, settings.redis),
        metrics=metrics,
        tokens=Tokens.read(Path(settings.tokens)) if settings.tokens else None,
        journal=journal,
        tracing=open_tracing(settings.traces),
        shadow=Shadow(slot, pipeline, metrics, journal, limit_s, watchdog),
        reloader=reloader,
        watchdog=watchdog,
    )


def _open_journal(url: str | None) -> "Journal | None":
    if url is None:
        return None
    from lesion.serve.journal import open_journal  # loads a library for databases

    return open_journal(url)


@asynccontextmanager
async def _live(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    asyncio.get_running_loop().set_exception_handler(_report)
    if service.tokens:
        service.tokens.start()
    if service.reloader:
        service.reloader.start(service.metrics.count_reload, service.watchdog)
    yield
    if service.tokens:
        service.tokens.close()
    if service.reloader:
        service.reloader.close()
    service.pipeline.close()
    service.watchdog.close()
    if service.journal:
        left_s = CLOSE_S if service.end_by is None else service.end_by - monotonic()
        service.journal.close(max(0.1, min(CLOSE_S, left_s)))
    service.tracing.close()
    await service.limiter.close()


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what went wrong in the event loop outside any request; its own lines show objects, each time others."""
    error = context.get("exception")
    if isinstance(error, OSError):  # such as no file descriptor for another connection
        log.error("event loop: %s: %s", context["message"], error.strerror or error)
    else:
        log.error("event loop: %s", context["message"], exc_info=error)
