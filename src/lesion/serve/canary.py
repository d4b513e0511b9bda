"""The canary: another model that answers a share of the requests."""

import hashlib
import re

from lesion.errors import ConfigError


def split_canary(setting: str) -> tuple[str, float]:
    """The model and the share of `serve.canary`, a number above 0 and below 1; ConfigError when it is not so."""
    word, _, share = setting.rpartition("=")
    if not word or not re.fullmatch(r"0?\.[0-9]+", share) or float(share) == 0:
        raise ConfigError(
            f"serve.canary: {setting!r} is no model with a share between 0 and 1",
            hint="NAME@ALIAS=SHARE or FILE=SHARE, for example ham@staging=0.1",
        )
    return word, float(share)


def falls_to_canary(request: str, share: float) -> bool:
    """Whether the canary answers the request with this id: always the same for the same id, else as a die says."""
    return int.from_bytes(hashlib.sha256(request.encode()).digest()[:8]) < share * 2**64
