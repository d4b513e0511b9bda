"""The one file that is deployed: an ONNX graph followed by its manifest, perhaps a signature, and a seal.

An ONNX file is a protobuf message, and protobuf reads the concatenation of two messages as their merge. So what is
added are `metadata_props` entries appended behind the graph's own bytes: every ONNX reader sees them as metadata, and
they are written and checked here without the `onnx` package.

    [ graph ][ lesion.manifest = JSON ][ lesion.signature = Ed25519 of all bytes before this entry, in base64 ]
    [ lesion.seal = SHA-256 of all bytes before this entry ]

A file is parsed as every reader of protobuf parses it, and refused where readers could disagree.
"""

import base64
import binascii
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lesion.errors import ArtifactError, NotFoundError, OutOfMemory
from lesion.files import open_regular, read_regular, sha256
from lesion.manifest import Manifest
from lesion.protobuf import Schema, read_fields, walk, write_bytes
from lesion.signature import Signer

MAX_BYTES = 2**31 - 1
"""Largest size of a model file: protobuf's limit for a message."""

_IR_VERSION, _GRAPH, _OPSETS, _METADATA = 1, 7, 8, 14  # fields of ModelProto
_MANIFEST, _SIGNATURE, _SEAL = b"lesion.manifest", b"lesion.signature", b"lesion.seal"
_DATA_LOCATION = 14  # of TensorProto; 0, the default, is the file itself
# Where a model can hold tensors, by onnx.proto, and the fields of a tensor that refer to another file.
_TENSORS: Schema = {
    "Model": {_GRAPH: "Graph", 20: "TrainingInfo", 25: "Function"},
    "TrainingInfo": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: None, _DATA_LOCATION: None},
}
_COPY_AGAIN = "copy or export the model again"
_EXPORT_AGAIN = "export the model again"


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
        """Check the file and read its manifest; ArtifactError when it is not ours, not intact or not self-contained.

        With a `signer`, also when it does not vouch for the file: whoever can write a file can seal it.
        """
        if not content[-_SEAL_LENGTH:].startswith(_SEAL_HEAD):
            raise _unsealed(name)
        view = memoryview(content)  # a slice of bytes is a copy, and models have megabytes
        graph_end, manifest, encoded = _read_entries(view, name)
        seal = len(content) - _SEAL_LENGTH
        if view[seal:] != _entry(_SEAL, sha256(view[:seal]).encode()):
            raise _damaged(name)
        signature = None if encoded is None else _decode(encoded, name)
        body = graph_end + len(entry := _entry(_MANIFEST, manifest))
        signed = b"" if signature is None else _entry(_SIGNATURE, base64.b64encode(signature))
        if view[graph_end:body] != entry or view[body:seal] != signed:  # what they are when written anew
            raise ArtifactError(f"{name} holds more than graph, manifest, signature and seal", hint=_COPY_AGAIN)
        graph = content[:graph_end]
        _require_self_contained(graph, name)
        if signer is not None:
            _require_signature(signer, view[:body], signature, name)
        try:
            text = manifest.decode()
        except UnicodeDecodeError as error:
            raise ArtifactError(f"{name} has a manifest that is not UTF-8", hint=_EXPORT_AGAIN) from error
        return cls(graph, Manifest.loads(text), sha256(content), signature)

    @classmethod
    def read(cls, path: Path, signer: Signer | None = None) -> "Artifact":
        """Read and check the file at `path`, of at most MAX_BYTES.

        Raises NotFoundError, OutOfMemory, or what `unpack` does. When the file could not be read, the error has the
        OSError as its `__cause__`: such a failure may pass, and says nothing about the model.
        """
        try:
            _require_seal(path)
            content = read_regular(path, MAX_BYTES)
        except FileNotFoundError as error:
            raise NotFoundError(
                f"no such model file: {path}", hint="`lesion train` makes one, `lesion export` another"
            ) from error
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            raise ArtifactError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
        except MemoryError as error:
            raise OutOfMemory(f"the memory does not suffice to read {path}", hint="free memory") from error
        return cls.unpack(content, str(path), signer)

    def with_provenance(self, **facts: Any) -> Manifest:
        """The manifest with `facts` added to its provenance."""
        return replace(self.manifest, provenance={**self.manifest.provenance, **facts})

    def read_versions(self) -> tuple[int, dict[str, int]]:
        """The graph's version of ONNX's format, and the version of each set of operators; "" is ONNX's own.

        Raises ArtifactError for what is not to be understood.
        """
        version, opsets = 0, {}
        try:
            for _, number, value in read_fields(memoryview(self.graph)):
                if number == _IR_VERSION and isinstance(value, int):
                    version = value
                elif number == _OPSETS and isinstance(value, memoryview):
                    domain, opset = _read_opset(value)
                    opsets[domain] = opset
        except ValueError as error:
            raise ArtifactError(
                f"the graph's sets of operators are not understood ({error})", hint=_EXPORT_AGAIN
            ) from error
        return version, opsets


def _read_opset(content: memoryview) -> tuple[str, int]:
    domain, opset = "", 0
    for _, number, value in read_fields(content):
        if number == 1 and isinstance(value, memoryview):
            domain = str(value, "utf-8", "replace")
        elif number == 2 and isinstance(value, int):
            opset = value
    return domain, opset


def _entry(key: bytes, value: bytes) -> bytes:
    return write_bytes(_METADATA, write_bytes(1, key) + write_bytes(2, value))  # StringStringEntryProto


_SEAL_LENGTH = len(_entry(_SEAL, b"0" * 64))
_SEAL_HEAD = _entry(_SEAL, b"0" * 64)[:-64]


def _require_seal(path: Path) -> None:
    """Look at the end of the file alone, so that a large one which is no model costs little.

    Raises ArtifactError for a file without a seal, and what `open_regular` does.
    """
    with open_regular(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _SEAL_LENGTH))
        if not file.read(_SEAL_LENGTH).startswith(_SEAL_HEAD):
            raise _unsealed(str(path))


def _read_entries(content: memoryview, name: str) -> tuple[int, bytes, bytes | None]:
    """Return where the graph ends, the manifest, and the encoded signature if there is one."""
    try:
        fields = [each for each in read_fields(content) if isinstance(each[2], memoryview)]
        entries = [
            (start, *_read_entry(value))
            for start, number, value in fields
            if number == _METADATA and isinstance(value, memoryview)
        ]
    except ValueError as error:
        raise ArtifactError(
            f"{name} is not a lesion model, or was cut off or damaged ({error})", hint=_COPY_AGAIN
        ) from error
    ours = [each for each in entries if each[1] in (_MANIFEST, _SIGNATURE, _SEAL)]
    keys = [key for _, key, _ in ours]
    if _MANIFEST not in keys:
        raise _unsealed(name)
    if keys not in ([_MANIFEST, _SEAL], [_MANIFEST, _SIGNATURE, _SEAL]):
        raise ArtifactError(
            f"{name} has several manifests, signatures or seals, or has them in another order", hint=_COPY_AGAIN
        )
    if sum(number == _GRAPH for _, number, _ in fields) > 1:
        raise ArtifactError(f"{name} has more than one graph", hint=_EXPORT_AGAIN)
    return ours[0][0], ours[0][2], ours[1][2] if len(ours) == 3 else None


def _read_entry(content: memoryview) -> tuple[bytes, bytes]:
    found = {number: bytes(value) for _, number, value in read_fields(content, 10) if isinstance(value, memoryview)}
    return found.get(1, b""), found.get(2, b"")


def _require_self_contained(graph: bytes, name: str) -> None:
    """ArtifactError when any tensor, wherever it is, could be kept in another file."""
    try:
        is_external = any(number != _DATA_LOCATION or value != 0 for _, number, value in walk(graph, "Model", _TENSORS))
    except ValueError as error:
        raise ArtifactError(f"{name} has a graph that is not understood ({error})", hint=_EXPORT_AGAIN) from error
    if is_external:
        raise ArtifactError(
            f"{name} refers to external data; a lesion model is one self-contained file", hint=_EXPORT_AGAIN
        )


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


def _unsealed(name: str) -> ArtifactError:
    return ArtifactError(
        f"{name} is not a lesion model: its manifest and seal are missing",
        hint="use a model.onnx that `lesion train` or `lesion export` wrote; if it is one, copy it again, whole",
    )


def _damaged(name: str) -> ArtifactError:
    return ArtifactError(f"{name} is damaged: its content does not match its seal", hint=_COPY_AGAIN)
