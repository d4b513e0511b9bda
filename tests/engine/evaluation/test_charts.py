"""Drawings: what they are of, they show; what they are not given, they leave out."""

import re
from xml.etree import ElementTree

import pytest

from lesion.chart import Frame
from lesion.engine.evaluation.charts import (
    CELL,
    COLUMNS,
    ROWS,
    Line,
    Mark,
    choose_inside,
    draw_band,
    draw_curves,
    draw_interval,
    draw_reliability,
    draw_thousand,
)
from lesion.evaluation import Bin
from lesion.records import Curve, Estimate

FRAME = Frame((0, 1), (0, 1), width=120, height=120, left=10, right=10, top=10, bottom=10)
NOTHING = Estimate(None, None, None)


def read(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def test_a_band_encloses_its_intervals_and_breaks_where_there_are_none() -> None:
    curve = Curve((0.0, 0.5, 0.75, 1.0), (0.1, 0.5, None, 1.0), (0.0, 0.4, None, 0.9), (0.2, 0.6, None, 1.0))
    (path,) = re.findall(r' d="([^"]*)"', draw_band(FRAME, Line(curve, "k0")))
    assert path == "M10.0 90.0L60.0 50.0L60.0 70.0L10.0 110.0ZM110.0 10.0L110.0 20.0Z"
    assert draw_band(FRAME, Line(Curve((0.0,), (0.5,), (None,), (None,)), "k0")) == ""


def test_what_lies_below_the_frame_is_cut_off() -> None:
    curve = Curve((0.0, 0.5, 1.0), (0.5, -3.0, 0.5), (0.4, -4.0, -9.0), (0.6, -2.0, 0.7))
    drawing = read(draw_curves("T", "told", FRAME, "x", [Line(curve, "k0")]))
    heights = [
        float(y) for path in drawing.iter("path") for _, y in re.findall(r"([-\d.]+) ([-\d.]+)", str(path.get("d")))
    ]
    assert all(10 <= y <= 110 for y in heights)


@pytest.mark.parametrize(("x", "anchor"), [(0.1, "start"), (0.9, "end")])
def test_the_operating_point_is_marked_where_it_lies_with_its_label_inside(x: float, anchor: str) -> None:
    flat = Curve((0.0, 1.0), (0.5, 0.5), (None, None), (None, None))
    drawing = draw_curves("T", "told", FRAME, "x", [Line(flat, "k0")], Mark(x, 0.5, "<here>"))
    assert f'd="M{10 + 100 * x:.1f} 53.0' in drawing
    assert f'text-anchor="{anchor}">&lt;here&gt;' in drawing


def test_reliability_shows_every_bin_with_images_and_its_interval() -> None:
    bins = [Bin(0.0, 0.5, 30, 0.2, Estimate(0.25, 0.1, 0.4)), Bin(0.5, 0.9, 0, None, NOTHING),
            Bin(0.9, 1.0, 1, 0.95, Estimate(1.0, None, None))]  # fmt: skip
    drawing = read(draw_reliability("T", "told", bins))
    bars = [float(str(bar.get("height"))) for bar in drawing.iter("rect")]
    assert bars[1] == 0 < bars[2] < bars[0]
    assert len([dot for dot in drawing.iter("circle") if dot.get("r") == "4"]) == 2
    assert len(re.findall(r"V[\d.]+\"", ElementTree.tostring(drawing, "unicode"))) == 1
    assert read(draw_reliability("T", "told", [])).findtext("title") == "T"


def test_an_interval_lies_on_its_scale_and_nothing_is_drawn_of_nothing() -> None:
    drawing = read(draw_interval(Estimate(0.75, 0.5, 1.0), 0.5, 1.0, 0.75))
    reference, line, dot = drawing
    assert reference.get("d") == "M75.0 0V18"
    assert line.get("d") == "M6.0 9H144.0"
    assert dot.get("cx") == "75.0"
    assert len(read(draw_interval(NOTHING, 0.5, 1.0, None))) == 0


def test_a_thousand_lesions_are_a_thousand_squares_none_on_another() -> None:
    drawing = draw_thousand("told", [("found", 141), ("missed", 8), ("alarm", 280), ("clear", 571)])
    places = re.findall(r"M(\d+) (\d+)h", drawing)
    assert len(places) == len(set(places)) == COLUMNS * ROWS == 1000
    assert max(int(x) for x, _ in places) < COLUMNS * CELL
    assert re.findall(r'class="missed" d="([^"]*)"', drawing)[0].count("M") == 8


def test_ticks_stay_inside_the_frame() -> None:
    assert choose_inside(-0.04, 0.21) == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])
