"""What is written down or shown without its secrets, and otherwise as it was."""

import pytest

from lesion.redaction import redact


@pytest.mark.parametrize(
    ("secret", "plain"),
    [
        ("postgresql://me:hunter2@host:5432/db", "postgresql://me@host:5432/db"),
        ("postgresql+psycopg://me:hun/ter@2@host/db", "postgresql+psycopg://me@host/db"),
        ("postgresql://me:12/34@host/db", "postgresql://me@host/db"),
        ("postgresql://me:h@unt/er@host/db", "postgresql://me@host/db"),
        ("https://me@org:hunter2@host/path", "https://host/path"),
        ("postgresql://me:my own@host/db", "postgresql://me@host/db"),
        ("redis://:hunter2@host:6379/0", "redis://host:6379/0"),
        ("sftp://me:hunter2@host/ham@1", "sftp://me@host/ham@1"),
        ("sftp://me:hun/ter2@host/path", "sftp://me@host/path"),
        ("https://token@host/path", "https://host/path"),
        ("https://me:hunter2@host/a@b", "https://host/a@b"),
        ("cannot reach https://me:hunter2@host/x, tried twice", "cannot reach https://host/x, tried twice"),
        ("postgresql://host/db?user=me&password=hunter2", "postgresql://host/db?user=me&password=…"),
        ("https://host/x?api_key=1&page=2&X-Token=3", "https://host/x?api_key=…&page=2&X-Token=…"),
        ("https://host/x?X-Amz-Signature=1&sig=2&signal=3", "https://host/x?X-Amz-Signature=…&sig=…&signal=3"),
    ],
)
def test_a_secret_goes_and_nothing_of_it_remains(secret: str, plain: str) -> None:
    assert redact(secret) == plain
    assert redact(plain) == plain


@pytest.mark.parametrize(
    "plain",
    [
        "postgresql://alice@db/lesion",  # docs/config.md recommends it: the password comes from PGPASSWORD
        "postgresql://alice@db:5432/a@b",
        "gs://bucket/ham@1/models",
        "http://[::1]/ham@1.onnx",
        "s3://bucket/a:b@c/ham.onnx",
        "http://host:8000/ham@1.onnx",
        "http://[::1]:8000/ham@1.onnx",
        "sqlite:////home/me@work/a:b@c/runs.db",
        "https://host/a?b=c@d",
        "gs://a/b and me:x@host.org",
        "me@host.org",
        "data/ham10000",
    ],
)
def test_a_path_and_the_user_of_a_database_stay(plain: str) -> None:
    assert redact(plain) == plain


def test_it_reaches_every_depth_and_keeps_everything_else() -> None:
    value = {"a": [1, None, {"b": "x://u:p@h"}], "c": ("https://u@h", 2.5), "d": True}
    assert redact(value) == {"a": [1, None, {"b": "x://u@h"}], "c": ["https://h", 2.5], "d": True}
