"""The one thing Kaggle wants: a token."""

import base64
import json
from pathlib import Path

from lesion.errors import DataError, NotFoundError
from lesion.files import read_regular

MAX_BYTES = 2**16
PLACES = ("~/.kaggle/kaggle.json", "~/.kaggle/access_token")


def read_token(path: Path | None = None) -> str:
    """The Authorization header: from a name and a key in JSON, or from a bare access token.

    Without `path` it is looked for where Kaggle's own tool puts it.

    Raises:
        NotFoundError: there is no such file.
        DataError: it holds no token.
    """
    places = [path] if path else [Path(name).expanduser() for name in PLACES]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise NotFoundError(
            f"no Kaggle token at {' or '.join(map(str, places))}",
            hint="make one in your account's settings at kaggle.com, or leave out --source kaggle",
        )
    try:
        text = read_regular(found, MAX_BYTES).decode().strip()
        if not text.startswith("{"):
            if not text.isascii() or len(text.split()) != 1:
                raise ValueError("not one word")
            return f"Bearer {text}"
        token = json.loads(text)
        return "Basic " + base64.b64encode(f"{token['username']}:{token['key']}".encode()).decode()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{found} is no Kaggle token", hint="a username and a key in JSON, or a bare token") from error
