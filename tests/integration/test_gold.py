"""Gold against the oracle, on a landing place of edge cases.

| case | meterpoint |
|---|---|
| an agreement holds on [valid_from, valid_to) | half-open |
| several product_ids share one name | name-1, name-2 |
| an agreement of zero length holds never, alone or beside another | cancelled, cancelled-and-other |
| an agreement that ends before it begins holds never | backwards |
| of two agreements that hold, that with the later valid_from counts | overlap |
| of two that begin on one day, that with the higher id counts | twins |
| no agreement, none yet, a meterpoint that the reference does not know | never, late, ghost |
| another agreement from midnight, three in three days | switched, restless |
| days of 46 and of 50 half hours, and agreements that change on them | name-1, clock, clock-gap |
| gzip, columns in other orders and further ones, several meterpoints in a file, folders | name-1, name-2, formats-* |
| numbers: whole, zero, six decimals, more than six | numbers |
| a leap day, the turn of the year | overlap, switched |
| half hours missing, readings that are actual, estimated, rated otherwise or not at all | numbers |
"""

import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal

import pytest

from jobs import versions
from jobs.load import Summary
from jobs.settings import PROJECT
from jobs.spark import at_once
from tests import dictionary
from tests.dictionary import Relation
from tests.integration.lake import VIEWS, Agreement, Lake, Rows, day
from tests.integration.oracle import Answer, Oracle

DAYS = ("2021-01-01", "2021-01-02", "2021-01-03")
AGREEMENTS = [
    Agreement(1, "half-open", "2021-01-02", "2021-01-03"),
    Agreement(2, "name-1", product_id="P1"),
    Agreement(3, "name-2", product_id="P2"),
    Agreement(4, "cancelled", "2021-01-02", "2021-01-02"),
    Agreement(5, "cancelled-and-other", "2021-01-02", "2021-01-02", "P3"),
    Agreement(6, "cancelled-and-other", "2020-01-01", None, "P1"),
    Agreement(7, "backwards", "2021-01-03", "2021-01-01"),
    Agreement(8, "overlap", "2020-02-29", None, "P1"),
    Agreement(9, "overlap", "2021-01-02", "2021-01-03", "P3"),
    Agreement(10, "twins", "2020-06-01", None, "P3"),
    Agreement(11, "twins", "2020-06-01", None, "P1"),
    Agreement(12, "late", "2021-01-04"),
    Agreement(13, "switched", "2020-06-01", "2021-01-01", "P1"),
    Agreement(14, "switched", "2021-01-01", None, "P3"),
    Agreement(15, "restless", "2021-01-01", "2021-01-02", "P1", "a"),
    Agreement(16, "restless", "2021-01-02", "2021-01-03", "P2", "b"),
    Agreement(17, "restless", "2021-01-03", "2021-01-04", "P3", None),
    Agreement(18, "clock", "2021-01-01", "2021-10-31", "P1"),
    Agreement(19, "clock", "2021-10-31", None, "P3"),
    Agreement(20, "clock-gap", "2021-03-28", "2021-03-29", "P3"),
    Agreement(21, "formats-1", product_id="P3"),
    Agreement(22, "numbers", product_id="P2"),
]


def deliver_edge_cases(lake: Lake) -> None:
    landing = lake.landing
    known = [*{agreement.meterpoint_id: None for agreement in AGREEMENTS}, "never", "formats-2"]
    landing.reference(AGREEMENTS, known)
    plain = [
        "half-open",
        "cancelled",
        "cancelled-and-other",
        "backwards",
        "twins",
        "never",
        "late",
        "ghost",
        "restless",
    ]
    for number, meterpoint_id in enumerate(plain):
        rows = [row for each in DAYS for row in day(meterpoint_id, each, 0.1 + number / 1000)]
        landing.readings(f"{meterpoint_id}.json", rows[::-1])
    year_ends = ["2020-12-31", *DAYS]
    landing.readings("2021/01/switched.json", [row for each in year_ends for row in day("switched", each, 0.3)])
    landing.readings("overlap.json", [row for each in ("2020-02-29", *DAYS) for row in day("overlap", each, 0.7)])
    clock_days = ["2021-03-27", "2021-03-28", "2021-03-29", "2021-10-30", "2021-10-31", "2021-11-01"]
    for meterpoint_id in ("name-1", "clock", "clock-gap"):
        rows = [
            [start, 0.001 * n, each]
            for n, (start, _, each) in enumerate(r for d in clock_days for r in day(meterpoint_id, d))
        ]
        landing.readings(f"{meterpoint_id}.json.gz" if meterpoint_id == "name-1" else f"{meterpoint_id}.json", rows)
    rows = [row for each in DAYS for row in day("name-2", each, 0.2)]
    landing.readings(
        "name-2.json",
        [[meterpoint_id, "kWh", start, kwh, None] for start, kwh, meterpoint_id in rows],
        columns=["meterpoint_id", "unit", "interval_start", "consumption_delta", "comment"],
    )
    two = [row for pair in zip(day("formats-1", DAYS[0], 1), day("formats-2", DAYS[0], 2), strict=True) for row in pair]
    landing.readings(
        "deep/er/formats.json.gz",
        [[kwh, *rest] for kwh, *rest in [[k, m, s] for s, k, m in two]],
        columns=["consumption_delta", "meterpoint_id", "interval_start"],
    )
    amounts = [0, 0.0, 1, 100, 0.000001, 0.123456, 0.1234565, 33.333333, 1e-7, 2.5e0]
    starts = [start for start, *_ in day("numbers", DAYS[1])]
    qualities = ["A", "E", None, "A", "Substituted"] * 2
    landing.readings(
        "numbers.json",
        [[start, kwh, "numbers", told] for start, kwh, told in zip(starts, amounts, qualities, strict=False)],
        columns=["interval_start", "consumption_delta", "meterpoint_id", "reading_quality"],
    )


@pytest.fixture(scope="module")
def loaded(new_lake: Callable[[], Lake]) -> tuple[Lake, Summary]:
    lake = new_lake()
    deliver_edge_cases(lake)
    summary = lake.load()
    lake.set_periods()
    return lake, summary


@pytest.fixture(scope="module")
def lake(loaded: tuple[Lake, Summary]) -> Lake:
    return loaded[0]


@pytest.fixture(scope="module")
def relations(lake: Lake) -> list[Relation]:
    """All tables, views and functions."""
    return dictionary.relations(lake.spark)


@pytest.fixture(scope="module")
def gold(lake: Lake) -> dict[str, Rows]:
    """What the views say that are compared with the oracle."""
    return lake.gold()


@pytest.fixture(scope="module")
def oracle(lake: Lake) -> Oracle:
    return Oracle(lake.landing.folder)


@pytest.fixture(scope="module")
def answers(oracle: Oracle) -> dict[str, Answer]:
    return oracle.gold()


def test_edge_cases_load_without_a_rejection(loaded: tuple[Lake, Summary]) -> None:
    _, summary = loaded

    assert summary.errors == []
    assert (summary.readings_rejected, summary.rejected_by_reason) == (0, {})
    assert summary.files == {"loaded": 17}


@pytest.mark.parametrize("view", VIEWS)
def test_a_gold_view_says_what_the_raw_input_says(view: str, gold: dict[str, Rows], answers: dict[str, Answer]) -> None:
    columns, rows = answers[view]

    actual = gold[view]

    assert actual.columns == columns
    assert actual.rows == rows
    assert rows


@pytest.mark.parametrize("day", ["2020-01-01", "2020-01-02", "2021-01-01", "2021-01-03", "2021-10-31", "2021-11-01"])
def test_active_agreements_on_says_the_same_for_any_day(day: str, lake: Lake, oracle: Oracle) -> None:
    columns, rows = oracle.active_agreements(date.fromisoformat(day))

    actual = lake.view(f"gold.active_agreements_on(DATE '{day}')")

    assert (actual.columns, actual.rows) == (columns, rows)


def test_columns_are_those_of_the_design(lake: Lake) -> None:
    columns = {view: " ".join(lake.spark.table(f"gold.{view}").columns) for view in VIEWS[:5]}
    shares = " received_share actual_share"

    assert columns == {
        "active_agreements": "agreement_id meterpoint_id product_display_name is_variable",
        "half_hourly_consumption": "interval_start interval_start_utc date meterpoint_count consumption_kwh" + shares,
        "daily_product_consumption": "product_display_name date meterpoint_count consumption_kwh" + shares,
        "half_hourly_product_consumption": "product_display_name interval_start interval_start_utc date"
        " meterpoint_count consumption_kwh average_kwh" + shares,
        "readings_without_agreement": "meterpoint_id date reading_count consumption_kwh" + shares,
    }
    assert " ".join(lake.spark.table("silver.readings").columns) == (
        "meterpoint_id interval_start interval_start_utc consumption_kwh source_file load_id reading_quality"
        " known_from date"
    )


def test_on_every_date_all_consumption_is_that_of_products_and_that_without_agreement(lake: Lake) -> None:
    broken = lake.rows(
        """
        WITH everything AS (SELECT date, sum(consumption_kwh) AS kwh, sum(meterpoint_count) AS readings
                            FROM gold.half_hourly_consumption GROUP BY date),
        products AS (SELECT date, sum(consumption_kwh) AS kwh FROM gold.daily_product_consumption GROUP BY date),
        with_agreement AS (SELECT date, sum(reading_count) AS readings FROM mart.daily_meterpoint_consumption
                           WHERE agreement_id IS NOT NULL GROUP BY date),
        without AS (SELECT date, sum(consumption_kwh) AS kwh, sum(reading_count) AS readings
                    FROM gold.readings_without_agreement GROUP BY date)
        SELECT date, everything.*, products.*, without.* FROM everything
        LEFT JOIN products USING (date) LEFT JOIN with_agreement USING (date) LEFT JOIN without USING (date)
        WHERE everything.kwh <> coalesce(products.kwh, 0) + coalesce(without.kwh, 0)
          OR everything.readings <> coalesce(with_agreement.readings, 0) + coalesce(without.readings, 0)
        """
    )

    assert broken == []


def test_the_data_dictionary_is_made_of_the_comments_and_the_example_queries(
    lake: Lake, relations: list[Relation]
) -> None:
    found = dictionary.PAGE.read_text(encoding="utf-8")

    assert found == dictionary.page(dictionary.markdown(lake.spark, relations)), "say `make dictionary`"


def test_a_column_that_can_be_null_says_when(lake: Lake, gold: dict[str, Rows], relations: list[Relation]) -> None:
    tables = ("silver.agreement_history", "silver.product_history", "silver.meterpoint_history", "silver.readings")
    contents = {f"gold.{view}": rows for view, rows in gold.items()} | {name: lake.view(name) for name in tables}
    said = {f"{each.name}.{column.name}": column.null for each in relations for column in each.columns}

    null = {
        f"{name}.{column}"
        for name, (columns, rows) in contents.items()
        for number, column in enumerate(columns)
        if any(row[number] is None for row in rows)
    }

    assert {name for name in null if not said[name]} == set()
    assert {"gold.readings_enriched.region", "silver.agreement_history.agreement_valid_to"} < null


def test_a_time_says_which_clock_it_is_of_and_a_decimal_its_unit(relations: list[Relation]) -> None:
    columns = [(f"{each.name}.{column.name}", column) for each in relations for column in each.columns]

    assert [name for name, each in columns if each.type == "timestamp" and each.unit not in ("UTC", "local")] == []
    assert [name for name, each in columns if each.type.startswith("decimal") and not each.unit] == []


def test_gold_has_example_queries_of_each_view_and_function_and_they_find_something(
    lake: Lake, relations: list[Relation]
) -> None:
    """The functions `…_as_of` are only analysed: tests/integration/test_history.py compares what they say."""
    of_gold = [each for each in relations if each.name.startswith("gold.")]
    examples = {each.name: dictionary.queries(each.name) for each in of_gold}

    few = [each.name for each in of_gold if len(examples[each.name]) < (1 if each.kind == "function" else 3)]
    assert few == [], "write docs/queries/<schema>.<name>.sql"
    assert {path.stem for path in dictionary.QUERIES.iterdir()} == set(examples)
    assert [query.sql for found in examples.values() for query in found if not query.question] == []
    asked = []
    for name, query in ((name, query) for name, found in examples.items() for query in found):
        frame = lake.spark.sql(query.sql.replace("0432df65f7", "numbers"))
        if not name.endswith("_as_of"):
            asked.append((name, frame))
    empty = {
        name for (name, _), rows in zip(asked, at_once(*(frame.collect for _, frame in asked)), strict=True) if not rows
    }
    assert empty == {"gold.restatements"}  # this load is the first


# What follows was worked out by hand: the oracle and the lakehouse might be wrong in the same way.


@pytest.mark.parametrize(
    ("meterpoint_id", "agreements"),
    [
        ("half-open", [None, 1, None]),
        ("cancelled", [None, None, None]),
        ("cancelled-and-other", [6, 6, 6]),
        ("backwards", [None, None, None]),
        ("overlap", [8, 9, 8]),
        ("twins", [11, 11, 11]),
        ("switched", [14, 14, 14]),
        ("restless", [15, 16, 17]),
        ("never", [None, None, None]),
        ("late", [None, None, None]),
        ("ghost", [None, None, None]),
    ],
)
def test_a_reading_belongs_to_the_agreement_that_holds(
    meterpoint_id: str, agreements: list[int | None], lake: Lake
) -> None:
    rows = lake.rows(
        f"SELECT date, agreement_id, count(*) FROM gold.readings_enriched WHERE meterpoint_id = '{meterpoint_id}'"
        " AND date BETWEEN '2021-01-01' AND '2021-01-03' GROUP BY ALL ORDER BY date"
    )

    assert rows == [(date(2021, 1, n), agreement, 48) for n, agreement in enumerate(agreements, 1)]


@pytest.mark.parametrize(
    ("local_date", "half_hours", "first_utc"),
    [
        ("2021-03-27", 48, datetime(2021, 3, 27, 0, 0)),
        ("2021-03-28", 46, datetime(2021, 3, 28, 0, 0)),
        ("2021-03-29", 48, datetime(2021, 3, 28, 23, 0)),
        ("2021-10-31", 50, datetime(2021, 10, 30, 23, 0)),
        ("2021-11-01", 48, datetime(2021, 11, 1, 0, 0)),
    ],
)
def test_a_day_has_the_half_hours_of_its_clock(
    local_date: str, half_hours: int, first_utc: datetime, lake: Lake
) -> None:
    rows = lake.rows(
        "SELECT count(*), count(DISTINCT interval_start_utc), min(interval_start_utc), min(meterpoint_count),"
        f" max(meterpoint_count) FROM gold.half_hourly_consumption WHERE date = '{local_date}'"
    )

    assert rows == [(half_hours, half_hours, first_utc, 3, 3)]


def test_the_repeated_hour_of_october_is_two_hours_in_the_order_of_the_file(lake: Lake) -> None:
    rows = lake.rows(
        "SELECT date_format(interval_start, 'HH:mm'), date_format(interval_start_utc, 'HH:mm'), consumption_kwh"
        " FROM silver.readings WHERE meterpoint_id = 'clock' AND date = '2021-10-31'"
        " AND hour(interval_start) = 1 ORDER BY interval_start_utc"
    )

    first = 48 + 46 + 48 + 48 + 2  # readings of the file before it; the n-th has n Wh
    kwh = [Decimal(first + n) / 1000 for n in range(4)]
    assert rows == [
        ("01:00", "00:00", kwh[0]),
        ("01:30", "00:30", kwh[1]),
        ("01:00", "01:00", kwh[2]),
        ("01:30", "01:30", kwh[3]),
    ]


def test_products_of_one_name_are_one_row(lake: Lake) -> None:
    rows = lake.rows(
        "SELECT meterpoint_count, consumption_kwh FROM gold.daily_product_consumption"
        " WHERE product_display_name = 'Fixed' AND date = '2021-01-03'"
    )

    # name-2, cancelled-and-other, overlap, twins
    assert rows == [(4, 48 * (Decimal("0.2") + Decimal("0.102") + Decimal("0.7") + Decimal("0.104")))]


def test_consumption_is_exact_to_six_decimals_and_rounded_half_up(lake: Lake) -> None:
    rows = lake.rows(
        "SELECT consumption_kwh FROM silver.readings WHERE meterpoint_id = 'numbers' ORDER BY interval_start"
    )

    expected = ["0", "0", "1", "100", "0.000001", "0.123456", "0.123457", "33.333333", "0", "2.5"]
    assert [kwh for (kwh,) in rows] == [Decimal(text) for text in expected]


def test_load_history_tells_of_the_load(loaded: tuple[Lake, Summary]) -> None:
    lake, summary = loaded

    history = lake.view("gold.load_history")

    assert history.columns == [
        "load_id", "status", "started_at", "finished_at", "files_loaded", "files_rejected", "readings_loaded",
        "readings_rejected", "dates_published", "first_date", "last_date", "snapshot_date", "warnings", "error",
        "kind", "accepted", "warnings_by_name", "stage_seconds", "rolled_back_by",
    ]  # fmt: skip
    (row,) = [dict(zip(history.columns, row, strict=True)) for row in history.rows]
    raw = Oracle(lake.landing.folder).db.execute(
        "SELECT count(*), count(DISTINCT CAST(interval_start AS DATE)), CAST(min(interval_start) AS DATE) FROM reading"
    )
    assert (row["readings_loaded"], row["dates_published"], row["first_date"]) == raw.fetchone()
    assert row["finished_at"] > row["started_at"] == summary.started_at.replace(tzinfo=None)
    rest = (
        "load_id",
        "status",
        "files_loaded",
        "files_rejected",
        "readings_rejected",
        "last_date",
        "snapshot_date",
        "error",
    )
    assert [row[name] for name in rest] == [
        summary.load_id, "published", 17, 0, 0, date(2021, 11, 1), date(2021, 11, 2), None
    ]  # fmt: skip


def test_data_freshness_tells_of_the_newest_reading_and_snapshot(loaded: tuple[Lake, Summary]) -> None:
    lake, summary = loaded

    freshness = lake.view("gold.data_freshness")

    assert freshness.columns == [
        "last_reading_date", "last_reading_utc", "snapshot_date", "last_load_id", "last_load_finished_at",
        "publishing_load_id",
    ]  # fmt: skip
    finished_at = lake.value("SELECT finished_at FROM gold.load_history")
    assert freshness.rows == [
        (date(2021, 11, 1), datetime(2021, 11, 1, 23, 30), date(2021, 11, 2), summary.load_id, finished_at, None)
    ]


@pytest.mark.parametrize("page", ["analysts", "connect", "rules"])
def test_queries_of_a_guide_can_be_asked(page: str, lake: Lake) -> None:
    blocks = re.findall(r"^```sql\n(.*?)^```", (PROJECT / "docs" / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL)
    asked = [each for block in blocks for each in versions.statements(block)]

    assert asked
    assert all(lake.spark.sql(statement).columns for statement in asked)
