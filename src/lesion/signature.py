"""Who vouches for a model file: Ed25519 signatures (RFC 8032), computed by the `cryptography` package.

Keys are PEM files, as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lesion.errors import ConfigError, NotFoundError
from lesion.extras import need
from lesion.files import open_regular

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

LENGTH = 64  # bytes of a signature
MOST = 2**16  # bytes of a key file; a real one has some hundred


@dataclass(frozen=True, slots=True)
class Signer:
    """The public key of the one whose models are trusted."""

    path: str
    key: "Ed25519PublicKey"

    @classmethod
    def read(cls, path: str | Path) -> "Signer":
        """Read a PEM file; NotFoundError, ConfigError for what is no Ed25519 public key, MissingExtra."""
        need("--signer", "cryptography", extra="sign")
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        content = _read(path, regular=True)
        try:
            key = load_pem_public_key(content)
        except Exception as error:  # ValueError, UnsupportedAlgorithm, and whatever else a damaged file brings
            raise _no_key(path, "public") from error
        if not isinstance(key, Ed25519PublicKey):
            raise _no_key(path, "public")
        return cls(str(path), key)

    def vouches_for(self, body: bytes | memoryview, signature: bytes) -> bool:
        """Whether `signature` is that of `body` by this key."""
        from cryptography.exceptions import InvalidSignature

        try:
            self.key.verify(signature, body)
        except InvalidSignature:
            return False
        return True


def read_private(path: str | Path) -> "Ed25519PrivateKey":
    """Read the PEM file of a private key; NotFoundError, ConfigError for what is none or has a password.

    A pipe is read, too: a key that a store of secrets hands out need not touch a disk.
    """
    need("export --sign", "cryptography", extra="sign")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _read(path, regular=False)
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError as error:
        raise ConfigError(
            f"{path} is encrypted", hint="decrypt it first: openssl pkey -in KEY -out PLAIN, on a disk that is yours"
        ) from error
    except Exception as error:  # as above
        raise _no_key(path, "private") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "private")
    return key


def _read(path: str | Path, regular: bool) -> bytes:
    try:
        with open_regular(path) if regular else Path(path).open("rb") as file:
            return file.read(MOST)
    except FileNotFoundError as error:
        raise NotFoundError(f"no such key: {path}", hint="check the path") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the key {path}: {getattr(error, 'strerror', None) or error}") from error


def _no_key(path: str | Path, kind: str) -> ConfigError:
    make = "genpkey -algorithm ed25519 -out KEY" if kind == "private" else "pkey -in KEY -pubout -out PUB"
    return ConfigError(f"{path} is not a PEM file with an Ed25519 {kind} key", hint=f"openssl {make} makes one")
