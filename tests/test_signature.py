"""Signed model files: a forged seal is found out by whoever asks for a signature."""

import os
from pathlib import Path
from threading import Thread

import pytest

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from lesion.artifact import Artifact
from lesion.errors import ArtifactError, ConfigError, NotFoundError
from lesion.files import sha256
from lesion.inference.verification import sign, verify
from lesion.protobuf import write_bytes
from lesion.signature import Signer, read_private
from tests.conftest import GOLDEN, PATIENCE_S, Cli

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
SPKI, PLAIN = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.NoEncryption()
TINY = Artifact.read(GOLDEN / "tiny.onnx")


def write_keys(folder: Path, name: str) -> tuple[Path, Path]:
    key = ed25519.Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(PEM, PKCS8, PLAIN))
    public.write_bytes(key.public_key().public_bytes(PEM, SPKI))
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path, "ours")


def test_a_signed_file_is_accepted_by_who_asks_and_by_who_does_not(tiny: Path, keys: tuple[Path, Path]) -> None:
    report = sign(tiny, keys[0])
    assert report.signature == "not checked"
    assert verify(tiny, Signer.read(keys[1])).signature == "valid"
    signed = Artifact.read(tiny)
    assert (signed.graph, signed.manifest) == (TINY.graph, TINY.manifest)
    assert signed.digest != TINY.digest


def test_openssl_can_check_it(tiny: Path, keys: tuple[Path, Path]) -> None:
    sign(tiny, keys[0])
    signed = Artifact.read(tiny)
    body = tiny.read_bytes()[: tiny.read_bytes().rindex(b"\n\x10lesion.signature") - 2]
    assert signed.signature is not None
    Signer.read(keys[1]).key.verify(signed.signature, body)  # what `openssl pkeyutl -verify -rawin` does
    assert body == Artifact.pack(TINY.graph, TINY.manifest)[1][: len(body)]


def test_an_unsigned_file_is_refused_when_a_signature_is_asked_for(tiny: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(ArtifactError, match="is not signed") as caught:
        Artifact.read(tiny, Signer.read(keys[1]))
    assert "lesion export --sign" in caught.value.hint


def test_a_file_that_somebody_else_signed_is_refused(tiny: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    sign(tiny, write_keys(tmp_path, "theirs")[0])
    with pytest.raises(ArtifactError, match=r"signed, but not by .*ours\.pub"):
        Artifact.read(tiny, Signer.read(keys[1]))
    sign(tiny, keys[0])
    assert Artifact.read(tiny, Signer.read(keys[1])).signature is not None


@pytest.mark.parametrize("what", ["graph", "manifest"])
def test_a_forged_seal_does_not_help_whoever_changes_a_signed_file(
    what: str, tiny: Path, keys: tuple[Path, Path]
) -> None:
    sign(tiny, keys[0])
    signature = Artifact.read(tiny).signature
    assert signature is not None
    mutant = bytearray(TINY.graph)
    mutant[mutant.index(TINY.graph[-60:-40])] ^= 1
    graph = bytes(mutant) if what == "graph" else TINY.graph
    manifest = TINY.manifest if what == "graph" else TINY.with_provenance(validation={"auroc": 0.99})
    forged = Artifact.pack(graph, manifest, lambda _: signature)[1]
    assert Artifact.unpack(forged).signature == signature  # intact, for all that a seal can tell
    with pytest.raises(ArtifactError, match="signed, but not by"):
        Artifact.unpack(forged, "model.onnx", Signer.read(keys[1]))


@pytest.mark.parametrize("signature", [b"", b"x" * 63, b"x" * 64, b"x" * 65], ids=len)
def test_a_signature_of_any_length_is_judged(signature: bytes, keys: tuple[Path, Path]) -> None:
    content = Artifact.pack(TINY.graph, TINY.manifest, lambda _: signature)[1]
    with pytest.raises(ArtifactError, match="signed, but not by"):
        Artifact.unpack(content, "model.onnx", Signer.read(keys[1]))


def test_no_flipped_bit_of_the_signature_goes_unnoticed_even_without_a_key(tiny: Path, keys: tuple[Path, Path]) -> None:
    sign(tiny, keys[0])
    content = tiny.read_bytes()
    for position in range(content.rindex(b"lesion.signature") - 4, len(content)):
        mutant = bytearray(content)
        mutant[position] ^= 4
        with pytest.raises(ArtifactError):
            Artifact.unpack(bytes(mutant))


def make_key_file(kind: str, folder: Path) -> Path:
    path = folder / "key.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    locked = ed25519.Ed25519PrivateKey.generate()
    contents = {
        "empty": b"",
        "text": b"-----BEGIN PUBLIC KEY-----\nnone\n-----END PUBLIC KEY-----\n",
        "another kind": key.public_key().public_bytes(PEM, SPKI),
        "another private kind": key.private_bytes(PEM, PKCS8, PLAIN),
        "locked": locked.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"secret")),
        "noise": bytes(range(256)) * 500,
    }
    path.write_bytes(contents[kind])
    return path


@pytest.mark.parametrize("kind", ["empty", "text", "another kind", "another private kind", "locked", "noise"])
def test_what_is_no_key_is_refused(kind: str, tmp_path: Path) -> None:
    path = make_key_file(kind, tmp_path)
    with pytest.raises(ConfigError, match="Ed25519 public key"):
        Signer.read(path)
    with pytest.raises(ConfigError, match="is encrypted" if kind == "locked" else "Ed25519 private key"):
        read_private(path)


def test_a_missing_key_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such key"):
        Signer.read(tmp_path / "none.pub")
    with pytest.raises(ConfigError, match="cannot read the key"):
        read_private(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes")
def test_a_private_key_may_come_through_a_pipe_a_public_one_not(keys: tuple[Path, Path], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="it is a pipe, not a regular file"):
        Signer.read(pipe)
    writer = Thread(target=pipe.write_bytes, args=(keys[0].read_bytes(),))
    writer.start()
    assert read_private(pipe).sign(b"") == read_private(keys[0]).sign(b"")
    writer.join(PATIENCE_S)


def test_what_lies_behind_the_signature_is_refused(tiny: Path, keys: tuple[Path, Path]) -> None:
    sign(tiny, keys[0])
    content = tiny.read_bytes()
    body = content[: content.rindex(b"\n\x0blesion.seal") - 2]
    for extra in (TINY.graph, write_bytes(1000, bytes(5_000_000)), write_bytes(7, b"")):
        seal = sha256(body + extra).encode()
        evil = body + extra + write_bytes(14, write_bytes(1, b"lesion.seal") + write_bytes(2, seal))
        for signer in (None, Signer.read(keys[1])):
            with pytest.raises(ArtifactError):
                Artifact.unpack(evil, "model.onnx", signer)


def test_predicting_and_serving_refuse_what_is_not_signed(
    tiny: Path, keys: tuple[Path, Path], cli: Cli, tmp_path: Path
) -> None:
    from PIL import Image

    image = tmp_path / "image.png"
    Image.new("RGB", (64, 48), "pink").save(image)
    for command in (("predict", image), ("predict", tmp_path, "--json")):
        refused = cli(*command, "--model", tiny, "--signer", keys[1])
        assert (refused.code, "is not signed" in refused.err) == (65, True)
    refused = cli("serve", "--model", tiny, "--port", 0, f"serve.signer={keys[1]}")
    assert (refused.code, "is not signed" in refused.err) == (65, True)
    sign(tiny, keys[0])
    assert cli("predict", image, "--model", tiny, "--signer", keys[1]).code == 0


def test_a_running_server_takes_no_file_that_is_not_signed(tiny: Path, keys: tuple[Path, Path]) -> None:
    from lesion.serve.sources import FileSource

    source = FileSource(tiny, Signer.read(keys[1]))
    with pytest.raises(ArtifactError, match="is not signed"):
        source.read()
    sign(tiny, keys[0])
    assert source.read().graph == TINY.graph
