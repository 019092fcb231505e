"""The pages as text."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from jobs.reports import charts, expire, front, pages
from jobs.reports.charts import NARROW, WIDE, Point, Size, bars, short
from jobs.reports.facts import RejectedFile
from jobs.reports.overview import Overview
from tests.unit.reports import samples

NOW = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)


def test_chart__should_be_the_same_each_time_and_hold_nothing_but_the_drawing() -> None:
    points = [Point(1.0, "one", "1"), Point(None, "nothing"), Point(0, "zero"), Point(2.5, "two")]

    drawn = bars(points, "Title", WIDE)

    assert drawn == bars(points, "Title", WIDE)
    root = ElementTree.fromstring(drawn)
    assert (root.get("role"), root.get("aria-label")) == ("img", "Title")
    assert {each.tag.rsplit("}", 1)[-1] for each in root.iter()} == {"svg", "g", "rect", "path", "text", "title"}
    assert [each.text for each in root.iter() if each.tag.endswith("title")] == ["one", "zero", "two"]
    assert "<!--" not in drawn
    assert " id=" not in drawn


@pytest.mark.parametrize("values", [[], [None], [0.0], [1e12, 1.0], [0.003]])
def test_chart__should_draw_any_values(values: Sequence[float | None]) -> None:
    assert bars([Point(value, "x", "x") for value in values], "t", NARROW).startswith("<svg")


@pytest.mark.parametrize("largest", [1, 3, 47, 48, 999, 1000, 1001, 7.3e9])
def test_ticks__should_be_few_and_reach_above_the_largest(largest: float) -> None:
    ticks = charts._ticks(largest)

    assert 3 <= len(ticks) <= 5
    assert ticks[-1] >= largest > ticks[-2]


def test_axis__should_have_no_more_labels_than_room() -> None:
    points = [Point(1.0, "x", str(year)) for year in range(2000, 2020)]

    shown = re.findall(r">(20\d\d)<", bars(points, "t", Size(300, 100, 5)))

    assert shown == ["2000", "2004", "2008", "2012", "2016"]


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (950, "950"), (1200, "1.2k"), (14_000, "14k"), (2.5e6, "2.5M"), (3e9, "3G")]
)
def test_short__should_be_three_digits_and_a_unit(number: float, text: str) -> None:
    assert short(number) == text


@pytest.mark.parametrize("value", [samples.rich(), samples.small(), Overview(now=NOW, due=NOW)])
def test_front__should_load_nothing_and_link_to_nothing_outside(value: Overview) -> None:
    html = pages.front(value)

    assert not re.search(r"(?<!xmlns=\")https?://|@import|url\(", html)
    assert not re.search(r"<(script|img|iframe|object|link)[^>]*\b(src|href)=\"(?!data:,)", html)
    assert "default-src 'none'" in html
    assert "None" not in html


def test_front__should_say_what_to_do_about_each_reason() -> None:
    html = pages.front(samples.rich())

    for text in ("consumption_<wbr>negative", "less than 0 kWh", "Keep exports to the grid out of this file.", "131"):
        assert text in html


def test_front__should_stay_small_for_ten_years() -> None:
    assert len(pages.front(samples.rich())) < 400_000


def test_load__should_check_the_sum() -> None:
    good = samples.load(NOW, rows_read=10, rows_loaded=7, rows_rejected=3)

    assert "✓ adds up" in pages.load(good)
    assert "✕ does not add up" in pages.load(replace(good, rows_read=11))


def test_load__should_escape_what_comes_from_files() -> None:
    hostile = samples.load(
        NOW,
        error="<script>1</script>",
        rejected={"<b>": 1},
        rejected_files=(RejectedFile("<img src=x>.json", '"><script>'),),
        notes=("<i>",),
    )

    html = pages.load(hostile)

    assert "<script>1" not in html
    assert not any(text in html for text in ("<b><", "<img", "<i>"))


def test_load__should_link_its_checks() -> None:
    of_load = samples.load(NOW)

    html = pages.load(of_load)

    assert all(f'href="../{check.page}"' in html for check in of_load.checks)


def test_pages_of_old_loads__should_stay_as_they_are(tmp_path: Path) -> None:
    old = [samples.load(NOW - timedelta(days=400 * number)) for number in (2, 1)]
    front.keep(tmp_path, old)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}

    front.keep(tmp_path, [samples.load(NOW)])

    assert before.items() <= {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}.items()
    assert {path.name for path in (tmp_path / "loads").glob("????.html")} == {"2024.html", "2025.html", "2026.html"}


def test_reports_that_are_too_old__should_go_with_all_there_is_of_them(tmp_path: Path) -> None:
    loads = [samples.load(NOW - timedelta(days=400 * number)) for number in (2, 1, 0)]
    front.keep(tmp_path, loads)
    for load in loads:
        for kind in ("results", "validations"):
            folder = tmp_path / kind / "silver" / "readings" / load.load_id / "at"
            folder.mkdir(parents=True)
            (folder / "page").write_text(load.load_id)
    oldest, middle, newest = (load.load_id for load in loads)
    assert expire.older(tmp_path, loads[1].started_at.date()) == [oldest]

    old = expire.older(tmp_path, loads[1].started_at.date() + timedelta(days=1))
    expire.delete(tmp_path, old)

    assert old == [oldest, middle]
    assert {path.name for path in tmp_path.rglob("*.*")} == {f"{newest}.json", f"{newest}.html", "2026.html"}
    assert [path.read_text() for path in tmp_path.rglob("page")] == [newest, newest]


def test_rollback__should_mark_the_load_and_its_rollback_take_the_mark_away(tmp_path: Path) -> None:
    first = samples.load(NOW)
    undone = samples.load(NOW + timedelta(hours=1), kind="rollback", undid=first.load_id)
    again = samples.load(NOW + timedelta(hours=2), kind="rollback", undid=first.load_id, in_effect=True)

    states = []
    for of_load in (first, undone, again):
        front.keep(tmp_path, [of_load])
        kept = front.read(tmp_path, first.load_id)
        states.append(kept and kept.state)

    assert states == ["published", "rolled back", "published"]


def test_facts_that_are_cut_off__should_leave_the_load_out_of_the_list(tmp_path: Path) -> None:
    loads = [samples.load(NOW), samples.load(NOW + timedelta(hours=1))]
    front.keep(tmp_path, loads)
    (tmp_path / "loads" / f"{loads[0].load_id}.json").write_text("{")

    front.keep(tmp_path, [samples.load(NOW + timedelta(hours=2))])

    listed = (tmp_path / "loads" / "2026.html").read_text()
    assert loads[0].load_id not in listed
    assert loads[1].load_id in listed
