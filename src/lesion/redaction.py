"""Configuration without secrets, for everything that is written down or shown."""

import re
from typing import Any

# Up to the last "@": SQLAlchemy takes a password with "/" in it, and half a password must not remain.
_USER = re.compile(r"(?<=://)\S*@")
_WORD = re.compile(r"(?<=[?&])([\w-]*(?:password|passwd|token|secret|key)[\w-]*)=[^&\s]*", re.IGNORECASE)


def redact(value: Any) -> Any:
    """`value` with user name and password taken out of every URL in it, at any depth of dicts and lists."""
    if isinstance(value, str):
        return _WORD.sub(r"\1=…", _USER.sub("", value))
    if isinstance(value, dict):
        return {key: redact(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [redact(member) for member in value]
    return value
