import json

import pytest

from lesion.tracking.texts import show_figure, show_parameter, show_seconds


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.91234, "0.912"), (0.0, "0"), (1e-4, "0.0001"), (0.012345, "0.01235"), (12345.6, "12,346"),
     (65.988, "65.99"), (-0.5, "-0.500"), (1.0, "1.000")],
)  # fmt: skip
def test_a_figure(value: float | None, shown: str) -> None:
    assert show_figure(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "0 s"), (99.4, "99 s"), (120, "2 min"), (5400, "90 min"), (11100, "3 h 05 min")]
)
def test_a_time(seconds: float, shown: str) -> None:
    assert show_seconds(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (0.1, "0.1"),
        ("a b", "a b"),
        (["mel", "bcc"], "mel, bcc"),
        ([], ""),
        ("\x1b[31m", r"\x1b[31m"),
    ],
)
def test_a_parameter(value: object, shown: str) -> None:
    assert show_parameter(json.dumps(value)) == shown


def test_a_parameter_that_a_run_does_not_have() -> None:
    assert show_parameter("") == "–"
