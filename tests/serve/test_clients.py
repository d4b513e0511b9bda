"""Whose request it is, when headers may lie."""

import pytest

from lesion.serve.clients import client_of, header


def scope(*forwarded: str, peer: str = "10.0.0.1") -> dict[str, object]:
    return {"client": (peer, 1), "headers": [(b"x-forwarded-for", line.encode("latin-1")) for line in forwarded]}


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (0, (), "10.0.0.1"),
        (0, ("1.1.1.1",), "10.0.0.1"),
        (1, ("1.1.1.1",), "1.1.1.1"),
        (1, ("6.6.6.6, 1.1.1.1",), "1.1.1.1"),
        (1, ("6.6.6.6", "1.1.1.1"), "1.1.1.1"),
        (2, ("6.6.6.6, 1.1.1.1 , 2.2.2.2",), "1.1.1.1"),
        (2, ("1.1.1.1",), "10.0.0.1"),
        (1, (), "10.0.0.1"),
        (1, ("<script>",), "unknown"),
        (1, ("",), "unknown"),
        (1, ("2001:db8::1",), "2001:db8::/64"),
    ],
)
def test_only_trusted_proxies_are_believed(proxies: int, forwarded: tuple[str, ...], expected: str) -> None:
    assert client_of(scope(*forwarded), proxies) == expected


def test_a_client_without_an_address_is_unknown() -> None:
    assert client_of({"client": None, "headers": []}, 0) == "unknown"


def test_the_first_header_of_a_name_counts() -> None:
    headers = {"headers": [(b"a", b"1"), (b"b", b"\xff"), (b"a", b"2")]}
    assert (header(headers, b"a"), header(headers, b"b"), header(headers, b"c")) == ("1", "ÿ", None)
