"""`lesion export --verify` and `--sign` as they are typed; neither needs torch."""

import json
import random
from pathlib import Path

import pytest

from tests.conftest import Cli


def test_a_model_file_is_verified(tiny: Path, cli: Cli) -> None:
    outcome = cli("export", "--verify", tiny)
    assert outcome.code == 0
    assert outcome.out.splitlines()[0].startswith(f"{tiny}: tiny@")
    assert "intact" in outcome.out
    assert "onnx 17" in outcome.out
    document = json.loads(cli("export", tiny, "--verify", "--json").out)
    assert (document["schema"], document["model"], document["signature"]) == (1, str(tiny), "none")


def test_the_newest_run_is_verified_when_none_is_named(tiny_run: Path, cli: Cli) -> None:
    assert cli("export", "--verify", "--runs", tiny_run).code == 0


def test_single_bit_flips_are_refused(tiny: Path, cli: Cli) -> None:
    content, random_ = tiny.read_bytes(), random.Random(0)
    for _ in range(30):
        mutant = bytearray(content)
        mutant[random_.randrange(len(content))] ^= 1 << random_.randrange(8)
        tiny.write_bytes(mutant)
        outcome = cli("export", "--verify", tiny)
        assert (outcome.code, outcome.out) == (65, "")
        assert outcome.err.startswith(f"error: {tiny} ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--verify", "--quantize"), "each go alone"),
        (("--verify", "--sign", "key.pem"), "each go alone"),
        (("--signer", "key.pub"), "--signer goes with --verify"),
    ],
    ids=" ".join,
)
def test_what_does_not_go_together_is_told(words: tuple[str, ...], said: str, tiny: Path, cli: Cli) -> None:
    outcome = cli("export", *words, tiny)
    assert (outcome.code, said in outcome.err) == (2, True)


def test_a_missing_file_is_not_found(cli: Cli, tmp_path: Path) -> None:
    assert cli("export", "--verify", tmp_path / "none.onnx").code == 66


def test_a_file_is_signed_and_the_signature_asked_for(tiny: Path, tmp_path: Path, cli: Cli) -> None:
    pytest.importorskip("cryptography")
    from tests.test_signature import write_keys

    private, public = write_keys(tmp_path, "ours")
    assert cli("export", "--verify", tiny, "--signer", public).code == 65
    assert cli("export", "--sign", private, tiny).code == 0
    outcome = cli("export", "--verify", tiny, "--signer", public)
    assert outcome.code == 0
    assert "signature      valid" in outcome.out
