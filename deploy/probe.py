"""What a release asks of a server: which model it has, whether it lets strangers in, and what it says to an image."""

import http.client
import json
import math
import re
import struct
import zlib
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

SERVED = re.compile(r'lesion_requests_total\{[^}]*route="/predict[^}]*status="(\d)xx"[^}]*\} (\S+)')
MOST = 4 * 2**20  # bytes of an answer that are read


class Site:
    """A server at `url` that should answer with the model whose file has this SHA-256.

    `/readyz` is asked by Cloud Run inside the container; from outside, Google reserves some paths that end in z.
    """

    def __init__(self, url: str, token: str, digest: str, latency_s: float) -> None:
        self.url, self.digest, self.latency_s = url, digest, latency_s
        self._token = token
        self._image = draw_image()
        self.reached = False
        """Whether it has told its model, right or wrong."""
        self.served = self.failed = 0
        """Images asked by anyone, and those answered with 5xx, of the instance that was asked for its metrics last."""

    def check_model(self) -> str:
        """What is wrong with its model, or ""."""
        status, body = self._send("GET", "/v1/model")
        if status != 200:
            return _failure(status, body)
        self.reached, found = True, _parse(body).get("digest")
        return "" if found == self.digest else f"it has the model {found}, expected {self.digest}"

    def check_strangers(self) -> str:
        """Whether it answers someone without a token, or ""."""
        status, body = self._send("POST", "/v1/predict", self._image, token="")
        return "" if status == 401 else f"without a token it answers {status or body.decode()}, expected 401"

    def ask(self) -> str:
        """What is wrong with its answer to an image, or ""; slow is wrong, too."""
        began = monotonic()
        status, body = self._send("POST", "/v1/predict", self._image)
        seconds = monotonic() - began
        if status != 200:
            return _failure(status, body)
        if seconds > self.latency_s:
            return f"answered after {seconds:.2f} s, at most {self.latency_s:g} s expected"
        return check_answer(_parse(body), self.digest)

    def read_metrics(self) -> str:
        """Read `served` and `failed`; what is wrong with the metrics, or ""."""
        status, body = self._send("GET", "/metrics")
        if status != 200:
            return f"metrics: {_failure(status, body)}"
        counts = [(kind, float(value)) for kind, value in SERVED.findall(body.decode("utf-8", "replace"))]
        self.served = int(sum(value for _, value in counts))
        self.failed = int(sum(value for kind, value in counts if kind == "5"))
        return ""

    def _send(self, method: str, path: str, body: bytes | None = None, token: str | None = None) -> tuple[int, bytes]:
        """Status and body of an answer; 0 and the reason without one. The token follows no redirect."""
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.netloc, timeout=max(10.0, 3 * self.latency_s))
        headers = {"content-type": "image/png"} if body else {}
        if token != "":
            headers["authorization"] = f"Bearer {token or self._token}"
        try:
            connection.request(method, parts.path + path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(MOST)
        except (OSError, http.client.HTTPException) as error:
            return 0, f"{type(error).__name__}: {error}".encode()
        finally:
            connection.close()


def check_answer(answer: dict[str, Any], digest: str) -> str:
    """What is wrong with the shape of a prediction, or with the model that made it, or ""."""
    shares = answer.get("class_probabilities")
    if not isinstance(shares, dict) or set(shares) != {"benign", "malignant"}:
        return f"class_probabilities: {shares!r}"
    values = [*shares.values(), answer.get("confidence")]
    if not all(isinstance(value, float | int) and 0 <= value <= 1 for value in values):
        return f"probabilities outside 0 to 1: {values}"
    if not math.isclose(sum(shares.values()), 1, abs_tol=1e-4):
        return f"probabilities that do not add up to 1: {shares}"
    if answer.get("prediction") not in shares:
        return f"prediction: {answer.get('prediction')!r}"
    if not str(answer.get("model")).endswith(f"@{digest[:12]}"):
        return f"answered by {answer.get('model')}, expected @{digest[:12]}"
    return ""


def draw_image(side: int = 96) -> bytes:
    """A PNG: a dark disc on skin colour."""
    middle, skin, mole = side / 2, bytes((205, 160, 140)), bytes((95, 60, 50))
    rows = b"".join(
        b"\0" + b"".join(mole if math.hypot(x - middle, y - middle) < side / 4 else skin for x in range(side))
        for y in range(side)
    )
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _parse(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _failure(status: int, body: bytes) -> str:
    said = _parse(body).get("detail") or (body.decode("utf-8", "replace") if not status else "")
    return " ".join(f"{'HTTP ' + str(status) if status else 'no answer'} {str(said)[:200]}".split())
