from xml.etree import ElementTree

import pytest

from lesion.chart import Frame, choose_ticks, draw_line, write_tick

FRAME = Frame((0, 10), (-1, 1), width=120, height=60, left=10, right=10, top=5, bottom=15)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0.61, 0.94, [0.6, 0.7, 0.8, 0.9, 1.0]),
     (0, 0, [0, 0.5, 1]),
     (7, 7, [2, 4, 6, 8, 10, 12]), (-3, 12, [-5, 0, 5, 10, 15]), (0, 1e-4, [0, 2e-5, 4e-5, 6e-5, 8e-5, 1e-4])],
)  # fmt: skip
def test_ticks_are_round_and_enclose_the_values(low: float, high: float, ticks: list[float]) -> None:
    found = choose_ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    assert found == pytest.approx(ticks)


def test_a_frame_maps_its_ranges_onto_the_room_within_its_margins() -> None:
    assert FRAME.place([(0, 1), (10, -1), (5, None)]) == [(10, 5), (110, 45), (60, None)]


def test_axes_have_their_numbers_and_a_name() -> None:
    drawing = ElementTree.fromstring(FRAME.draw("<T>", FRAME.draw_axes([0, 5, 10], [-1, 0, 1], "<x>"), "told"))
    assert [text.text for text in drawing.iter("text")] == ["-1", "0", "1", "0", "5", "10", "<x>"]
    assert (drawing.findtext("title"), drawing.findtext("desc")) == ("<T>", "told")
    assert len(list(drawing.iter("path"))) == 3


@pytest.mark.parametrize(
    ("tick", "ticks", "text"),
    [(0.2, [0, 0.2], "0.2"), (0.0, [0, 2e-5], "0"), (2e-5, [0, 2e-5], "2.0e-5"), (5, [0, 5], "5"), (3, [3], "3"),
     (0, [0], "0"), (2000, [0, 2000], "2,000"), (2e6, [0, 2e6], "2.0e6")],
)  # fmt: skip
def test_a_tick_has_the_decimals_it_needs(tick: float, ticks: list[float], text: str) -> None:
    assert write_tick(tick, ticks) == text


def test_a_line_breaks_at_gaps_and_a_lonely_point_is_a_dot() -> None:
    drawn = ElementTree.fromstring(f"<g>{draw_line([(0, 1), (1, 2), (2, None), (3, 4)], 'k0')}</g>")
    (path,), (dot,) = drawn.iter("path"), drawn.iter("circle")
    assert path.get("d") == "M0.0 1.0L1.0 2.0M3.0 4.0"
    assert (dot.get("cx"), dot.get("cy")) == ("3.0", "4.0")
    assert "circle" not in draw_line([], "k0")
