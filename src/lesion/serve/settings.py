"""What of the configuration does not go together, said before the model is loaded."""

import ipaddress
import socket
import ssl

from lesion.config.serving import ServeConfig
from lesion.errors import ConfigError

RATE = 0.001  # images per minute, at least, unless 0


def check_settings(settings: ServeConfig) -> None:
    """ConfigError when the server would be open to everyone unasked, or a setting contradicts another."""
    if not (settings.tokens or settings.open or _is_loopback(settings.host)):
        raise ConfigError(
            f"serve.host: on {settings.host} anyone who reaches this machine could ask, and no tokens are set",
            hint="set serve.tokens=FILE, or serve.open=true if something in front of it asks for them",
        )
    if settings.max_images > settings.queue:
        raise ConfigError(
            f"serve.max_images: {settings.max_images} images of one request never fit into a serve.queue of "
            f"{settings.queue}",
            hint="raise serve.queue, or lower serve.max_images",
        )
    if 0 < settings.rate < RATE:
        raise ConfigError(
            f"serve.rate: {settings.rate:g} images per minute is none in a week",
            hint=f"0 means no limit, else {RATE} or more",
        )
    if settings.redis and not settings.rate:
        raise ConfigError("serve.redis has nothing to count while serve.rate is 0", hint="set serve.rate, too")
    if settings.certificate or settings.key:
        _check_certificate(settings.certificate, settings.key)


def _is_loopback(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", None)
        return all(ipaddress.ip_address(each[4][0]).is_loopback for each in found)
    except (OSError, ValueError, UnicodeError):
        return True  # no such host: whoever listens on it says so


def _check_certificate(certificate: str | None, key: str | None) -> None:
    if not (certificate and key):
        raise ConfigError("serve.certificate and serve.key belong together, one is missing", hint="set both")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")  # else it asks for one
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"serve.certificate: {certificate} and {key} are no certificate with its key: {error}",
            hint="name PEM files; the key must not have a passphrase",
        ) from error
