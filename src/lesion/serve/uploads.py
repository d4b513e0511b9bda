"""The images of a request, counted while they arrive: a Content-Length is not believed, and nothing goes to disk."""

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from lesion.errors import ImageTooLarge, Overloaded
from lesion.serve.problems import Refused

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
OTHER_PARTS = 8  # fields of a form that are not images
PART_HEADERS = 8
PART_HEADER_BYTES = 4096
NAME = 255  # characters of a file name that come back
TOGETHER = 16  # bodies of the largest size that are held at once, of all clients
HOW = "send the image as the multipart field `file`, or alone with `Content-Type: image/jpeg` or `image/png`"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a client sent."""

    name: str
    content: bytes


class Intake:
    """Takes bodies in, of `max_bytes` each; `most` of all bodies together is held in memory at once."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._held = 0

    @asynccontextmanager
    async def receive(self, kind: str, length: str, receive: Receive, most: int) -> AsyncIterator[list[Upload]]:
        """The images of one request: of a form up to `most` files called `file`, else its body.

        Args:
            kind: Its Content-Type, or "".
            length: Its Content-Length, or ""; a request that says itself that it is too large is not read at all.
            receive: The ASGI callable.
            most: Images at most.

        Raises:
            Refused: no images, too many, a form that is not one, or another type.
            ImageTooLarge: more bytes than allowed.
            Overloaded: too much is held for others.
            ClientDisconnect: the client is gone.
        """
        if length.isdecimal() and int(length[:20]) > self.max_bytes:
            raise self._too_large()
        form = _choose_form(kind, most)
        held = 0
        try:
            async for piece in _pieces(receive):
                held += len(piece)
                self._held += len(piece)
                if held > self.max_bytes:
                    raise self._too_large()
                if self._held > TOGETHER * self.max_bytes:
                    raise Overloaded("too many large requests at once", hint="ask again later", retry_after_s=1)
                form.feed(piece)
            yield form.finish()
        finally:
            self._held -= held

    def _too_large(self) -> ImageTooLarge:
        return ImageTooLarge(
            f"the request has more than {self.max_bytes / 2**20:.3g} MiB", hint="compress or downscale the image"
        )


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        yield message.get("body", b"")
        more = message.get("more_body", False)


def _choose_form(kind: str, most: int) -> "Form | Alone":
    essence, options = _parse_type(kind)
    if essence == b"multipart/form-data":
        return Form(options.get(b"boundary", b""), most)
    if essence.startswith(b"image/") or essence == b"application/octet-stream":
        return Alone()
    raise Refused(415, "unsupported_media_type", f"the request is {kind[:80]!r}, an image expected", hint=HOW)


@lru_cache(maxsize=100)  # a client sends the same one with each request
def _parse_type(kind: str) -> tuple[bytes, dict[bytes, bytes]]:
    return parse_options_header(kind.encode("latin-1", "replace"))


class Alone:
    """A body that is one image."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def feed(self, piece: bytes) -> None:
        """Take in the next bytes."""
        self._pieces.append(piece)

    def finish(self) -> list[Upload]:
        """The image."""
        return [Upload("upload", b"".join(self._pieces))]


class Form:
    """A multipart body; of its parts only the files called `file` are kept."""

    def __init__(self, boundary: bytes, most: int) -> None:
        self._most = most
        self._parts = 0
        self._ended = False
        self._field = b""
        self._disposition = b""
        self._name: str | None = None  # of the file whose bytes come now
        self._pieces: list[bytes] = []
        self._uploads: list[Upload] = []
        if not boundary:
            raise _malformed("it names no boundary")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._take_field,
                    "on_header_value": self._take_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._choose,
                    "on_part_data": self._take,
                    "on_part_end": self._finish_part,
                    "on_end": self._end,
                },
                max_header_count=PART_HEADERS,
                max_header_size=PART_HEADER_BYTES,
            )
        except FormParserError as error:
            raise _malformed(str(error)) from error

    def feed(self, piece: bytes) -> None:
        """Take in the next bytes; Refused when they are no form, or have too many parts."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _malformed(str(error)) from error

    def finish(self) -> list[Upload]:
        """The files; Refused when there is none, or the form was cut off."""
        if not self._ended:
            raise _malformed("it was cut off")
        if not self._uploads:
            raise Refused(422, "no_image", "the form has no file called `file`", hint=HOW)
        return self._uploads

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > self._most + OTHER_PARTS:
            raise Refused(413, "too_many_parts", f"the form has more than {self._most + OTHER_PARTS} parts")
        self._field = self._disposition = b""
        self._name, self._pieces = None, []

    def _take_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition += data[start:end]

    def _end_header(self) -> None:
        self._field = b""

    def _choose(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") == b"file" and b"filename" in options:
            if len(self._uploads) == self._most:
                raise Refused(413, "too_many_images", f"more than {self._most} images in one request")
            self._name = options[b"filename"].decode("utf-8", "replace")[:NAME] or "upload"

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._name is not None:
            self._pieces.append(data[start:end])

    def _finish_part(self) -> None:
        if self._name is not None:
            self._uploads.append(Upload(self._name, b"".join(self._pieces)))

    def _end(self) -> None:
        self._ended = True


def _malformed(why: str) -> Refused:
    return Refused(400, "malformed_form", f"the request is no multipart form: {why}", hint=HOW)
