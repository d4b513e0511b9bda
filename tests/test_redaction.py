import pytest

from lesion.redaction import redact


@pytest.mark.parametrize(
    ("secret", "plain"),
    [
        ("postgresql://me:hunter2@host:5432/db", "postgresql://host:5432/db"),
        ("postgresql+psycopg://me:hun/ter@2@host/db", "postgresql+psycopg://host/db"),
        ("https://token@host/path", "https://host/path"),
        ("cannot reach https://me:hunter2@host/x, tried twice", "cannot reach https://host/x, tried twice"),
        ("postgresql://host/db?user=me&password=hunter2", "postgresql://host/db?user=me&password=…"),
        ("https://host/x?api_key=1&page=2&X-Token=3", "https://host/x?api_key=…&page=2&X-Token=…"),
        ("https://host/a?b=c", "https://host/a?b=c"),
        ("me@host.org", "me@host.org"),
        ("data/ham10000", "data/ham10000"),
    ],
)
def test_what_only_its_owner_should_know_goes(secret: str, plain: str) -> None:
    assert redact(secret) == plain


def test_it_reaches_every_depth_and_keeps_everything_else() -> None:
    value = {"a": [1, None, {"b": "x://u:p@h"}], "c": ("x://u@h", 2.5), "d": True}
    assert redact(value) == {"a": [1, None, {"b": "x://h"}], "c": ["x://h", 2.5], "d": True}
