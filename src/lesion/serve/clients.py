"""Who asks: the address of a client, with or without proxies in front."""

from collections.abc import Mapping
from typing import Any

from lesion.serve.limits import name_client


def header(scope: Mapping[str, Any], name: bytes) -> str | None:
    """The first header of a request with that name, given in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


def client_of(scope: Mapping[str, Any], proxies: int) -> str:
    """The address that asks, as `limits.name_client` says it, behind so many trusted proxies.

    Each of them adds the address it was asked from to the right of X-Forwarded-For; what stands left of theirs was
    written by the client, and is not believed.
    """
    peer = (scope.get("client") or ("unknown",))[0]
    if proxies == 0:
        return name_client(peer)
    lines = [value.decode("latin-1") for key, value in scope["headers"] if key == b"x-forwarded-for"]
    hops = [hop.strip() for hop in ",".join(lines).split(",")] if lines else []
    return name_client(hops[-proxies] if len(hops) >= proxies else peer)
