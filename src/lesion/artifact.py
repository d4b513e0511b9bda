"""The one file that is deployed: an ONNX graph followed by its manifest, perhaps a signature, and a seal.

An ONNX file is a protobuf message, and protobuf reads the concatenation of two messages as their merge. So what is
added are `metadata_props` entries appended behind the graph's own bytes: every ONNX reader sees them as metadata, and
they are written and checked here without the `onnx` package.

    [ graph ][ lesion.manifest = JSON ][ lesion.signature = Ed25519 of all bytes before this entry, in base64 ]
    [ lesion.seal = SHA-256 of all bytes before this entry ]
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lesion.errors import ArtifactError, NotFoundError
from lesion.files import sha256
from lesion.manifest import Manifest
from lesion.protobuf import read_fields, write_text
from lesion.signature import Signer

_IR_VERSION, _OPSETS, _METADATA = 1, 8, 14  # fields of ModelProto
_MANIFEST, _SIGNATURE, _SEAL = b"lesion.manifest", b"lesion.signature", b"lesion.seal"
_EXTERNAL = b"\n\x08location"  # in TensorProto.external_data: weights in some other file
Entry = tuple[int, bytes, bytes]
"""Offset, key and value of an entry of metadata_props."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """An intact model file in memory."""

    graph: bytes
    """The ONNX graph alone."""
    manifest: Manifest
    digest: str
    """SHA-256 of the whole file."""
    signature: bytes | None = None
    """Somebody's, of graph and manifest; verified only if the file was read with a signer."""

    @property
    def identity(self) -> str:
        """name@ and the first 12 digits of the digest: what every prediction carries."""
        return f"{self.manifest.name}@{self.digest[:12]}"

    @classmethod
    def pack(
        cls, graph: bytes, manifest: Manifest, sign: Callable[[bytes], bytes] | None = None
    ) -> tuple["Artifact", bytes]:
        """Seal `graph` and `manifest`, signed by `sign` if there is one: the artifact and the file's bytes."""
        body = graph + _entry(_MANIFEST, manifest.dumps().encode())
        signature = sign(body) if sign else None
        if signature is not None:
            body += _entry(_SIGNATURE, base64.b64encode(signature))
        content = body + _entry(_SEAL, sha256(body).encode())
        return cls(graph, manifest, sha256(content), signature), content

    @classmethod
    def unpack(cls, content: bytes, name: str = "the file", signer: Signer | None = None) -> "Artifact":
        """Check the seal and read the manifest; ArtifactError when the file is not ours or not intact.

        With a `signer`, also when it does not vouch for the file: whoever can write a file can seal it.
        """
        view = memoryview(content)  # a slice of bytes is a copy, and models have megabytes
        entries = _read_metadata(view, name)
        keys = [key for _, key, _ in entries]
        signed = keys[-3:] == [_MANIFEST, _SIGNATURE, _SEAL]
        if not signed and keys[-2:] != [_MANIFEST, _SEAL]:
            raise ArtifactError(
                f"{name} is not a lesion model: its manifest and seal are missing",
                hint="use a model.onnx that `lesion train` or `lesion export` wrote",
            )
        (graph_end, _, manifest), *more, (seal, _, _) = entries[-3 if signed else -2 :]
        if view[seal:] != _entry(_SEAL, sha256(view[:seal]).encode()):  # nothing may follow the seal
            raise _damaged(name)
        if content.find(_EXTERNAL, 0, graph_end) >= 0:
            raise ArtifactError(f"{name} refers to external data; a lesion model is one self-contained file")
        signature = _decode(more[0][2], name) if more else None
        if signer is not None:
            _require_signature(signer, view[: more[0][0] if more else seal], signature, name)
        return cls(content[:graph_end], Manifest.loads(manifest.decode("utf-8", "replace")), sha256(content), signature)

    @classmethod
    def read(cls, path: Path, signer: Signer | None = None) -> "Artifact":
        """Read and check the file at `path`; NotFoundError, or what `unpack` raises."""
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise NotFoundError(
                f"no such model file: {path}", hint="`lesion train` makes one, `lesion export` another"
            ) from error
        except OSError as error:
            raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error
        return cls.unpack(content, str(path), signer)

    def with_provenance(self, **facts: Any) -> Manifest:
        """The manifest with `facts` added to its provenance."""
        return replace(self.manifest, provenance={**self.manifest.provenance, **facts})

    def read_versions(self) -> tuple[int, dict[str, int]]:
        """The graph's version of ONNX's format, and the version of each set of operators; "" is ONNX's own."""
        version, opsets = 0, {}
        for _, number, value in read_fields(memoryview(self.graph)):
            if number == _IR_VERSION and isinstance(value, int):
                version = value
            elif number == _OPSETS and isinstance(value, memoryview):
                pair = {key: each for _, key, each in read_fields(value)}
                opsets[str(bytes(pair.get(1, b"")), "utf-8", "replace")] = int(pair.get(2, 0))
        return version, opsets


def _entry(key: bytes, value: bytes) -> bytes:
    return write_text(_METADATA, write_text(1, key) + write_text(2, value))  # StringStringEntryProto


def _read_metadata(content: memoryview, name: str) -> list[Entry]:
    """All metadata_props of a ModelProto, skipping the graph unread."""
    try:
        return [
            (start, *_read_entry(value))
            for start, number, value in read_fields(content)
            if number == _METADATA and isinstance(value, memoryview)
        ]
    except ValueError as error:
        raise ArtifactError(
            f"{name} is not a lesion model, or was cut off or damaged ({error})",
            hint="copy or export the model again",
        ) from error


def _read_entry(body: memoryview) -> tuple[bytes, bytes]:
    found = {number: bytes(value) for _, number, value in read_fields(body) if isinstance(value, memoryview)}
    return found.get(1, b""), found.get(2, b"")


def _decode(signature: bytes, name: str) -> bytes:
    try:
        return base64.b64decode(signature, validate=True)
    except binascii.Error as error:
        raise _damaged(name) from error


def _require_signature(signer: Signer, body: memoryview, signature: bytes | None, name: str) -> None:
    if signature is None:
        raise ArtifactError(f"{name} is not signed", hint="sign it: lesion export --sign KEY MODEL")
    if not signer.vouches_for(body, signature):
        raise ArtifactError(
            f"{name} is signed, but not by {signer.path}", hint="somebody else made or changed it: do not use it"
        )


def _damaged(name: str) -> ArtifactError:
    return ArtifactError(
        f"{name} is damaged: its content does not match its seal", hint="copy or export the model again"
    )
