"""The page at /: plain files, sent as they are, under names that change with their content."""

import hashlib
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

FOLDER = Path(__file__).parent / "page"
FILES = ("style.css", "words.js", "answer.js", "script.js", "index.html")  # each one after those that it names
KINDS = {".css": "text/css", ".js": "text/javascript", ".html": "text/html"}
FOREVER = "public, max-age=31536000, immutable"


class Page:
    """The page and its files, read once. It holds no secret: who may not ask gets the page, and no answer."""

    def __init__(self, max_bytes: int) -> None:
        """Args: max_bytes, of an upload, which the page says before it sends one in vain."""
        self._files: dict[str, tuple[bytes, str]] = {}
        names: dict[str, str] = {}
        for file in FILES:
            text = (FOLDER / file).read_text("utf-8").replace("{max_bytes}", str(max_bytes))
            for plain, name in names.items():
                text = text.replace(f'/{plain}"', f'/{name}"')
            content, kind = text.encode(), Path(file).suffix
            names[file] = f"{Path(file).stem}.{hashlib.sha256(content).hexdigest()[:12]}{kind}"
            self._files[names[file]] = content, KINDS[kind]
        self._index = self._files.pop(names["index.html"])[0]
        self._etag = f'"{names["index.html"]}"'
        self.router = APIRouter(include_in_schema=False)
        self.router.add_api_route("/", self.index, methods=["GET", "HEAD"])
        self.router.add_api_route("/page/{name}", self.asset, methods=["GET", "HEAD"])

    async def index(self, request: Request) -> Response:
        """The page itself, asked for anew each time, so that it names the files that are there."""
        headers = {"cache-control": "no-cache", "etag": self._etag}
        if request.headers.get("if-none-match") == self._etag:
            return Response(status_code=304, headers=headers)
        return Response(self._index, headers=headers, media_type="text/html")

    async def asset(self, name: str) -> Response:
        """A file of the page; what has its name has its content, for ever. HTTPException 404 for another name."""
        if name not in self._files:
            raise HTTPException(404)
        content, kind = self._files[name]
        return Response(content, headers={"cache-control": FOREVER}, media_type=kind)
