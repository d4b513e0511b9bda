"""POST /v1/predict and POST /v1/predict/batch."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import asdict, fields
from time import perf_counter
from typing import Any, TypeGuard

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from lesion.errors import CheckFailed, ImageError, Overloaded, brief
from lesion.records import SCHEMA, Prediction
from lesion.serve.admission import TooLate
from lesion.serve.clients import header
from lesion.serve.jobs import Job, Outcome
from lesion.serve.problems import Refused, code_of
from lesion.serve.service import Service
from lesion.serve.slot import CANARY, Serving
from lesion.serve.uploads import Upload
from lesion.taxonomy import MALIGNANT

log = logging.getLogger(__name__)
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
FIELDS = tuple(field.name for field in fields(Prediction))
Refusal = ImageError | CheckFailed
SWITCH = {None: False, "0": False, "false": False, "1": True, "true": True}


class Predictions:
    """The handlers; each checks what costs least first."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def predict(self, request: Request) -> Response:
        """Classify one JPEG or PNG.

        Send it as the multipart field `file`, or alone as the body. The answer is the record of
        `lesion predict --json`; with `explain=1` it has a heat map, too.
        """
        ((_, outcome),) = await self._ask(request, most=1)
        if not isinstance(outcome, Outcome):
            raise outcome
        return _respond(_describe(outcome))

    async def predict_batch(self, request: Request) -> Response:
        """Classify several JPEGs or PNGs, each sent as a multipart field `file`.

        Those that cannot be used, and those that the model has no answer for, are listed under `refused`; the others
        are answered all the same.
        """
        pairs = await self._ask(request, most=self.service.settings.max_images)
        answered = [_describe(outcome) for _, outcome in pairs if isinstance(outcome, Outcome)]
        refused = [
            {"index": index, "source": upload.name, **_describe_refusal(error)}
            for index, (upload, error) in enumerate(pairs)
            if not isinstance(error, Outcome)
        ]
        return _respond({"schema": SCHEMA, "predictions": answered, "refused": refused})

    async def _ask(self, request: Request, most: int) -> list[tuple[Upload, Outcome | Refusal]]:
        service, scope, began = self.service, request.scope, perf_counter()
        service.authorize(request)
        explain = SWITCH.get(request.query_params.get("explain"))
        if explain is None:
            raise Refused(422, "wrong_parameter", "explain is neither 0 nor 1")
        service.gate.require_room()
        await service.count(request, 1)
        kind, length = header(scope, b"content-type") or "", header(scope, b"content-length") or ""
        async with service.intake.receive(kind, length, request.receive, most) as uploads:
            service.metrics.time_stage("receive", perf_counter() - began)
            if len(uploads) > 1:
                await service.count(request, len(uploads) - 1)
            service.gate.require_room(len(uploads))
            state = scope["state"]
            serving = service.slot.pick(state["request_id"])
            state.update(model=serving.identity, images=len(uploads))
            try:
                outcomes = await self._work(uploads, serving, explain, request.receive)
            except Exception as error:
                serving = self._stand_in(serving, error)
                state["model"] = serving.identity
                outcomes = await self._work(uploads, serving, explain, request.receive)
        self._record(outcomes, serving, state, began)
        pairs = list(zip(uploads, outcomes, strict=True))
        for upload, outcome in pairs:
            if isinstance(outcome, Outcome):
                service.shadow.offer(upload.content, outcome.digest, state["request_id"])
        return pairs

    def _stand_in(self, serving: Serving, error: Exception) -> Serving:
        """The live model where the canary has no answer; else the error goes on."""
        if serving.role != CANARY or isinstance(error, Overloaded | ClientDisconnect):
            raise error
        log.warning("the canary %s has no answer, the live model stands in: %s", serving.identity, brief(error))
        return self.service.slot.pick()

    async def _work(
        self, uploads: Sequence[Upload], serving: Serving, explain: bool, receive: Receive
    ) -> list[Outcome | Refusal]:
        """The outcomes in order; TooLate or ClientDisconnect as soon as there is no use in going on.

        Where the model answers only some of the images, the others have a CheckFailed; it is raised for a canary, or
        when the model answers none.
        """
        loop = asyncio.get_running_loop()
        jobs = [Job(each.content, each.name, serving, explain, loop.create_future()) for each in uploads]
        self.service.pipeline.submit(jobs)
        late = loop.call_later(self.service.settings.deadline_s, _expire, jobs)
        gone = loop.create_task(_watch(receive, jobs))
        try:
            outcomes = await asyncio.gather(*(job.future for job in jobs), return_exceptions=True)
        finally:
            late.cancel()
            gone.cancel()
        failed = [each for each in outcomes if _is_failure(each)]
        if failed:
            self.service.metrics.count_failure(serving.role, len(failed))
            if serving.role == CANARY or not any(isinstance(each, Outcome) for each in outcomes):
                raise failed[0]
        return [_require_known(each) for each in outcomes]

    def _record(
        self, outcomes: Sequence[Outcome | Refusal], serving: Serving, state: MutableMapping[str, Any], began: float
    ) -> None:
        metrics, journal, seconds = self.service.metrics, self.service.journal, perf_counter() - began
        metrics.time_stage("total", seconds, serving.role)
        for outcome in outcomes:
            if not isinstance(outcome, Outcome):
                if isinstance(outcome, CheckFailed):
                    log.error("%s: %s", state["request_id"], outcome.message)
                continue
            for stage, (start, end) in outcome.stages.items():
                metrics.time_stage(stage, end - start, serving.role)
                state["span"].stage(stage, start, end)
            if outcome.batch:
                metrics.count_batch(outcome.batch)
            prediction = outcome.prediction
            metrics.count_prediction(prediction, serving.role)
            serving.drift.add(prediction.class_probabilities[MALIGNANT], outcome.checks, prediction.decision)
            if journal:
                journal.record(prediction, outcome.digest, seconds * 1000, state["request_id"], serving.role)


async def _watch(receive: Receive, jobs: Sequence[Job]) -> None:
    """Drop the jobs when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    for job in jobs:
        job.future.cancel()


def _expire(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(TooLate("no answer in time", hint="ask again later"))


def _is_failure(outcome: Outcome | BaseException) -> TypeGuard[Exception]:
    """Whether the model, or the server around it, failed at the image."""
    return isinstance(outcome, Exception) and not isinstance(outcome, ImageError | Overloaded)


def _require_known(outcome: Outcome | BaseException) -> Outcome | Refusal:
    """The outcome, or why this image alone has none; raises what concerns the whole request."""
    if isinstance(outcome, asyncio.CancelledError):
        raise ClientDisconnect
    if isinstance(outcome, BaseException) and not isinstance(outcome, Refusal):
        raise outcome
    return outcome


def _describe_refusal(error: Refusal) -> dict[str, str]:
    if isinstance(error, CheckFailed):  # its message is for the log
        return {"code": code_of(error), "detail": "the model has no answer for the image", "hint": ""}
    return {"code": code_of(error), "detail": error.message, "hint": error.hint}


def _describe(outcome: Outcome) -> dict[str, Any]:
    # Not to_dict: it copies all that is in a record, which took longer than any other step in the event loop.
    record = {name: getattr(outcome.prediction, name) for name in FIELDS}
    if record["diagnosis_probabilities"] is None:
        del record["diagnosis_probabilities"]
    return record if outcome.explanation is None else {**record, "explanation": asdict(outcome.explanation)}


def _respond(body: dict[str, Any]) -> Response:
    content = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(content, media_type="application/json")
