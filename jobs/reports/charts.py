"""Bar charts as SVG to be put into a page, whose style sheet gives them their colours."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10
from typing import Any, NamedTuple


class Size(NamedTuple):
    """Of a chart, in pixels, and how many labels its horizontal axis has room for."""

    width: int
    height: int
    labels: int


# The page shows the one that fits the screen, so that text has one size on all of them.
WIDE, NARROW = Size(600, 190, 12), Size(330, 170, 5)


class Point(NamedTuple):
    """A bar."""

    value: float | None  # None: there is nothing
    tooltip: str
    label: str = ""  # on the axis, if it has one


def bars(points: Sequence[Point], title: str, size: Size) -> str:
    """One bar a point. `title` is what a person hears who does not see the chart."""
    import pygal
    from pygal.style import Style

    labels = [point.label for point in points if point.label]
    shown = set(labels[:: -(-len(labels) // size.labels)] if labels else ())
    ticks = _ticks(max((point.value or 0 for point in points), default=0))
    chart = pygal.Bar(
        width=size.width,
        height=size.height,
        # For the room that labels take; the page's style sheet gives them this size.
        style=Style(label_font_size=12, major_label_font_size=12),
        margin=0,
        margin_top=8,
        margin_left=10,
        margin_right=14,
        spacing=6,
        js=(),
        pretty_print=False,
        show_legend=False,
        show_minor_x_labels=False,
        x_labels_major=[],
        truncate_label=-1,
        range=(0, ticks[-1]),
        no_data_text="",
    )
    chart.x_labels = [point.label for point in points]
    chart.x_labels_major = [label for label in labels if label in shown]
    chart.y_labels = [{"value": tick, "label": short(tick)} for tick in ticks]
    chart.add("", [point.value for point in points])
    return _for_page(chart.render_tree(), title, [point.tooltip for point in points if point.value is not None])


def short(value: float) -> str:
    """A number of three digits or so: 950, 1.2k, 14k, 3M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _ticks(largest: float) -> list[float]:
    """Round numbers from 0 to `largest` or above it."""
    if largest <= 0:
        return [0, 1]
    power = 10 ** floor(log10(largest))
    step = next(power * part for part in (0.25, 0.5, 1, 2, 2.5) if power * part * 4 >= largest)
    return [step * number for number in range(5) if step * (number - 1) < largest]


def _for_page(root: Any, title: str, tooltips: Sequence[str]) -> str:
    """The drawing alone: no script, no style, no comment with the time; and a tooltip a bar that needs no script."""
    from xml.etree import ElementTree

    for parent in list(root.iter()):
        for child in list(parent):
            if not isinstance(child.tag, str) or child.tag in ("defs", "title", "desc") or _is_decoration(child):
                parent.remove(child)
    rects = [rect for group in root.iter("g") if group.get("class") == "bar" for rect in group.iter("rect")]
    for rect, tooltip in zip(rects, tooltips, strict=True):
        ElementTree.SubElement(rect, "title").text = tooltip
    for name in ("id", "class"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", title)
    return ElementTree.tostring(root, encoding="unicode")


def _is_decoration(element: Any) -> bool:
    return element.tag == "g" and any(word in element.get("class", "") for word in ("overlay", "titles", "tooltip"))
