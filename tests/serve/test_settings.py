"""What does not go together is said before anything is loaded."""

import subprocess
from pathlib import Path

import pytest

from lesion.config.load import load_config
from lesion.config.serving import ServeConfig
from lesion.errors import ConfigError
from lesion.serve.settings import check_settings


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.9.1"])
def test_this_machine_may_ask_without_tokens(host: str) -> None:
    check_settings(ServeConfig(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1"])
def test_others_may_not_unless_told(host: str) -> None:
    with pytest.raises(ConfigError, match=r"no tokens are set") as caught:
        check_settings(ServeConfig(host=host))
    assert "serve.tokens" in caught.value.hint
    check_settings(ServeConfig(host=host, open=True))
    check_settings(ServeConfig(host=host, tokens="file"))


def test_a_batch_must_fit_into_the_queue() -> None:
    with pytest.raises(ConfigError, match=r"serve.max_images"):
        check_settings(ServeConfig(queue=4, max_images=5))


def test_a_certificate_comes_with_its_key(certificate: tuple[str, str], tmp_path: Path) -> None:
    chain, key = certificate
    check_settings(ServeConfig(certificate=chain, key=key))
    for wrong in ({"certificate": chain}, {"key": key}):
        with pytest.raises(ConfigError, match=r"belong together"):
            check_settings(ServeConfig(**wrong))  # type: ignore[arg-type]
    for names in ((key, chain), (str(tmp_path / "none"), key), (chain, chain)):
        with pytest.raises(ConfigError, match=r"no certificate with its key"):
            check_settings(ServeConfig(certificate=names[0], key=names[1]))


def test_a_key_with_a_passphrase_is_refused_without_asking_for_it(certificate: tuple[str, str], tmp_path: Path) -> None:
    chain, key = certificate
    locked = tmp_path / "locked.pem"
    command = ["openssl", "ec", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(ConfigError, match=r"no certificate with its key"):
        check_settings(ServeConfig(certificate=chain, key=str(locked)))


@pytest.mark.parametrize("rate", [5e-324, 1e-9])
def test_a_rate_of_next_to_nothing_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"serve.rate"):
        check_settings(ServeConfig(rate=rate))
    check_settings(ServeConfig(rate=0.001))


@pytest.mark.parametrize("word", ["rate=1e300", "burst=1" + "0" * 400, "threads=30000", "watch_s=1e18"])
def test_absurd_settings_are_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=word.partition("=")[0]):
        load_config(overrides=[f"serve.{word}"])
