"""Configuration without secrets, for everything that is written down or shown."""

import re
from typing import Any

# A scheme, and all that can belong to the address behind it in a sentence.
_ADDRESS = re.compile(r"([A-Za-z][\w+.-]*)://(\S*)")
_WORD = re.compile(
    r"(?<=[?&])([\w-]*(?:password|passwd|token|secret|signature|credential|key)[\w-]*|sig)=[^&\s]*", re.IGNORECASE
)
# SQLAlchemy and Redis clients take a password with "/" in it: what stands before the last "@" may belong to it.
_DATABASES = ("postgres", "redis", "rediss", "valkey", "mysql", "mariadb")
_HOST = re.compile(r"(?:\[[^\]]*\]|[^:@/?#]*)(?::\d*)?(?:[/?#]|$)")


def redact(value: Any) -> Any:
    """Return `value` without the passwords of the URLs in it, at any depth of dicts and lists.

    The user name stays, except where it is a secret itself: `https://TOKEN@host`. So does the path, whatever is in it:
    what is written down is read back, and must name the same place. Secrets in a query are replaced by "…".
    """
    if isinstance(value, str):
        whole = _ADDRESS.match(value)
        if whole and _is_database(whole[1]):  # a text that is one URL may have spaces in the password
            scheme, rest = value.split("://", 1)
            value = f"{scheme}://{_hide_password(scheme, rest)}"
        else:
            value = _ADDRESS.sub(lambda found: f"{found[1]}://{_hide_password(found[1], found[2])}", value)
        return _WORD.sub(r"\1=…", value)
    if isinstance(value, dict):
        return {key: redact(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [redact(member) for member in value]
    return value


def _is_database(scheme: str) -> bool:
    return scheme.lower().startswith(_DATABASES)


def _hide_password(scheme: str, rest: str) -> str:
    """Return what follows `://` without its password (RFC 3986, section 3.2.1)."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    end = authority.rfind("@")
    if end < 0 and (":" not in authority or (_HOST.match(rest) and not _is_database(scheme))):
        return rest
    # A "/" or "@" in a password should be written as %2F or %40; half a password must not remain all the same.
    if end < 0 or (":" in authority[:end] and _is_database(scheme)):
        end = rest.rfind("@")
    user, colon, _ = rest[: max(end, 0)].partition(":")
    is_web = scheme.lower().startswith("http")
    if end < 0 or not (colon or is_web):
        return rest
    return rest[end + 1 :] if is_web or not user else f"{user}{rest[end:]}"
