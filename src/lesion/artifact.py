"""The one file that is deployed: an ONNX graph followed by its manifest and a seal.

An ONNX file is a protobuf message, and protobuf reads the concatenation of two messages as their merge. So the
manifest and the seal are two `metadata_props` entries appended behind the graph's own bytes: every ONNX reader sees
them as metadata, and they are written and checked here without the `onnx` package.

    [ graph ][ lesion.manifest = JSON ][ lesion.seal = SHA-256 of all bytes before this entry ]
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lesion.errors import ArtifactError, NotFoundError
from lesion.files import sha256
from lesion.manifest import Manifest

_METADATA_PROPS = 14 << 3 | 2  # ModelProto.metadata_props, length-delimited
_KEY, _VALUE = 1 << 3 | 2, 2 << 3 | 2  # StringStringEntryProto
_MANIFEST, _SEAL = b"lesion.manifest", b"lesion.seal"


@dataclass(frozen=True, slots=True)
class Artifact:
    """An intact model file in memory."""

    graph: bytes
    """The ONNX graph alone."""
    manifest: Manifest
    digest: str
    """SHA-256 of the whole file."""

    @property
    def identity(self) -> str:
        """name@ and the first 12 digits of the digest: what every prediction carries."""
        return f"{self.manifest.name}@{self.digest[:12]}"

    @classmethod
    def pack(cls, graph: bytes, manifest: Manifest) -> tuple["Artifact", bytes]:
        """Seal `graph` and `manifest`: the artifact and the file's bytes."""
        body = graph + _entry(_MANIFEST, manifest.dumps().encode())
        content = body + _entry(_SEAL, sha256(body).encode())
        return cls(graph, manifest, sha256(content)), content

    @classmethod
    def unpack(cls, content: bytes, name: str = "the file") -> "Artifact":
        """Check the seal and read the manifest; ArtifactError when the file is not ours or not intact."""
        entries = _top_level_entries(content, name)
        if len(entries) < 2 or entries[-1][1] != _SEAL or entries[-2][1] != _MANIFEST:
            raise ArtifactError(
                f"{name} is not a lesion model: its manifest and seal are missing",
                hint="use a model.onnx that `lesion train` or `lesion export` wrote",
            )
        (graph_end, _, manifest), (body_end, _, _) = entries[-2:]
        if content[body_end:] != _entry(_SEAL, sha256(content[:body_end]).encode()):  # nothing may follow the seal
            raise _damaged(name)
        if b"\n\x08location" in content[:graph_end]:  # TensorProto.external_data: weights in some other file
            raise ArtifactError(f"{name} refers to external data; a lesion model is one self-contained file")
        return cls(content[:graph_end], Manifest.loads(manifest.decode("utf-8", "replace")), sha256(content))

    @classmethod
    def read(cls, path: Path) -> "Artifact":
        """Read and check the file at `path`; NotFoundError or ArtifactError."""
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise NotFoundError(
                f"no such model file: {path}", hint="`lesion train` makes one, `lesion export` another"
            ) from error
        except OSError as error:
            raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error
        return cls.unpack(content, str(path))

    def with_provenance(self, **facts: Any) -> Manifest:
        """The manifest with `facts` added to its provenance."""
        return replace(self.manifest, provenance={**self.manifest.provenance, **facts})


def _entry(key: bytes, value: bytes) -> bytes:
    body = b"".join(bytes([tag]) + _varint(len(text)) + text for tag, text in ((_KEY, key), (_VALUE, value)))
    return bytes([_METADATA_PROPS]) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _top_level_entries(content: bytes, name: str) -> list[tuple[int, bytes, bytes]]:
    """All metadata_props of a ModelProto as (offset, key, value), skipping the graph unread."""
    entries, at = [], 0
    try:
        while at < len(content):
            start, (tag, at) = at, _read_varint(content, at)
            if tag & 7 == 0:
                _, at = _read_varint(content, at)
            elif tag & 7 == 2:
                length, at = _read_varint(content, at)
                if at + length > len(content):
                    raise ValueError("runs past the end")
                if tag == _METADATA_PROPS:
                    entries.append((start, *_read_entry(content[at : at + length])))
                at += length
            else:
                raise ValueError(f"unexpected wire type {tag & 7}")
    except (ValueError, IndexError) as error:
        raise ArtifactError(
            f"{name} is not a lesion model, or was cut off or damaged ({error})",
            hint="copy or export the model again",
        ) from error
    return entries


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 64:
        byte = content[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise ValueError("a number is too long")


def _read_entry(body: bytes) -> tuple[bytes, bytes]:
    fields, at = {}, 0
    while at < len(body):
        tag, at = _read_varint(body, at)
        length, at = _read_varint(body, at)
        fields[tag], at = body[at : at + length], at + length
    return fields.get(_KEY, b""), fields.get(_VALUE, b"")


def _damaged(name: str) -> ArtifactError:
    return ArtifactError(
        f"{name} is damaged: its content does not match its seal", hint="copy or export the model again"
    )
