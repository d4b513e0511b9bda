"""The routes that ask nothing of the model: is it there, which is it, how is it doing."""

import json
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lesion.records import NOTICE
from lesion.serve.service import Service
from lesion.serve.slot import Serving


class Probes:
    """The handlers."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def livez(self, request: Request) -> Response:
        """The process answers."""
        return _respond({"status": "live"})

    async def readyz(self, request: Request) -> Response:
        """The model is loaded, has passed its self-test, and another image would be let in; else 503."""
        status = self._status()
        code = 200 if status == "ready" else 503
        return _respond({"status": status, "model": self.service.slot.pick().identity}, code)

    def _status(self) -> str:
        gate, tokens = self.service.gate, self.service.tokens
        if gate.draining:
            return "draining"
        if gate.is_stuck:
            return "stuck"
        if tokens is not None and not tokens.are_known:
            return "no_tokens"
        return "ready" if gate.is_open else "busy"

    async def model(self, request: Request) -> Response:
        """What the model that answers says about itself."""
        self.service.authorize(request)
        return _respond(describe_model(self.service.slot.pick()))

    async def drift(self, request: Request) -> Response:
        """How the latest images and answers compare with those that the model was validated with."""
        self.service.authorize(request)
        return _respond(self.service.slot.pick().drift.report())

    async def metrics(self, request: Request) -> Response:
        """What Prometheus asks for."""
        self.service.authorize(request)
        service, serving = self.service, self.service.slot.pick()
        service.metrics.show_models(service.slot.identities)
        service.metrics.show_drift(serving.drift.report())
        if service.journal:
            service.metrics.show_journal(service.journal.written, service.journal.dropped)
        content, kind = service.metrics.render()
        return Response(content, headers={"content-type": kind})


def describe_model(serving: Serving) -> dict[str, Any]:
    """The facts of a model's manifest, and its digests."""
    manifest = serving.manifest
    return {
        "model": serving.identity,
        "name": manifest.name,
        "digest": serving.wide.artifact.digest,
        "format": manifest.format,
        "labels": list(manifest.taxonomy.labels),
        "malignant": list(manifest.taxonomy.malignant),
        "preprocess": asdict(manifest.preprocess),
        "temperature": manifest.temperature,
        "threshold": manifest.threshold,
        "conformal": asdict(manifest.conformal),
        "checks": [asdict(check) for check in manifest.checks],
        "provenance": manifest.provenance,
        "notice": NOTICE,
    }


def _respond(body: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(body, ensure_ascii=False, allow_nan=False), status, media_type="application/json")
