import itertools
import re
from xml.etree import ElementTree

import pytest

from lesion.chart import Frame
from lesion.tracking.chart import LABEL, MOST_POINTS, Line, choose_epochs, draw_chart, spread, thin

FRAME = Frame((0, 1), (0, 1))
LOWEST = FRAME.height - FRAME.bottom


@pytest.mark.parametrize(
    ("end", "epochs"),
    [(1, [0, 1]), (6, [0, 1, 2, 3, 4, 5, 6]), (7, [0, 2, 4, 6]), (25, [0, 5, 10, 15, 20, 25]), (0.5, [0])],
)
def test_epochs_are_whole(end: float, epochs: list[int]) -> None:
    assert choose_epochs(end) == epochs


def test_a_long_curve_is_thinned_to_means_and_keeps_its_end() -> None:
    points = [(float(x), float(x % 2)) for x in range(1, 6001)]
    thinned = thin(points)
    assert len(thinned) == MOST_POINTS
    assert thinned[-1] == (6000.0, 0.5)
    assert thin(points[:MOST_POINTS]) == points[:MOST_POINTS]
    assert thin([(float(x), None) for x in range(6000)])[0][1] is None


@pytest.mark.parametrize("heights", [[100, 100, 100], [214, 215, 216, 216], [0, 1, 200], [50]])
def test_labels_at_one_end_do_not_overlap_and_keep_their_order(heights: list[float]) -> None:
    placed = spread([(400.0, float(height)) for height in heights], LOWEST)
    assert placed == sorted(placed)
    assert all(after - before >= LABEL for before, after in itertools.pairwise(placed))
    assert placed[-1] <= LOWEST


def test_labels_far_from_each_other_stay_where_they_belong() -> None:
    assert spread([(100.0, 50.0), (300.0, 50.0)], LOWEST) == [50, 50]


def test_lines_stay_within_the_axes() -> None:
    lines = [Line("A", 0, [(1, 0.5), (2, None), (3, 0.9), (4, 0.7)]), Line("B", 8, [(2, 0.6)])]
    chart = ElementTree.fromstring(draw_chart("Loss", lines))
    paths = [path for path in chart.iter("path") if "line" in str(path.get("class"))]
    numbers = [
        tuple(map(float, pair)) for path in paths for pair in re.findall(r"([\d.]+) ([\d.]+)", str(path.get("d")))
    ]
    assert len(numbers) == 4
    right = FRAME.width - FRAME.right
    assert all(FRAME.left <= x <= right and FRAME.top <= y <= LOWEST for x, y in numbers)
    assert str(paths[0].get("d")).count("M") == 2  # the gap
    assert len(list(chart.iter("circle"))) == 2  # a line of one point: B, and A before its gap
    assert [text.text for text in chart.iter("text") if "label" in str(text.get("class"))] == ["A", "B"]
    assert "dashed" in str(paths[1].get("class"))
    assert chart.findtext("title") == "Loss: A from 0.500 to 0.700, B from 0.600 to 0.600"


@pytest.mark.parametrize("points", [[], [(1, None)]])
def test_nothing_to_draw_is_nothing(points: list[tuple[float, float | None]]) -> None:
    assert draw_chart("Loss", [Line("A", 0, points)]) == ""


def test_what_strangers_wrote_cannot_become_markup() -> None:
    assert "<b>" not in draw_chart("<b>", [Line("<b>", 0, [(1, 1.0)])])
