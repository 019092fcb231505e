"""The sample is in the form of a real delivery, has its irregularities, and looks like homes."""

import gzip
import json
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from jobs.sample import SampleSummary, write_sample

START = date(2021, 1, 1)
Reading = tuple[str, float, str]  # interval_start, consumption_delta, meterpoint_id


def files_of(out: Path) -> list[Path]:
    return sorted(path for path in (out / "readings").rglob("*") if path.is_file())


def document_of(file: Path) -> dict[str, Any]:
    content = file.read_bytes()
    document: dict[str, Any] = json.loads(gzip.decompress(content) if file.suffix == ".gz" else content)
    return document


def readings_of(file: Path) -> list[Reading]:
    document = document_of(file)
    rows = [dict(zip(document["columns"], row, strict=True)) for row in document["data"]]
    return [(row["interval_start"], row["consumption_delta"], row["meterpoint_id"]) for row in rows]


def all_readings(out: Path) -> list[Reading]:
    return [reading for file in files_of(out) for reading in readings_of(file)]


def query(out: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(out / "case_study.db")) as connection:
        return connection.execute(sql).fetchall()


def count(out: Path, sql: str) -> int:
    return len(query(out, sql))


def mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample of the default size; tests only read it."""
    out = tmp_path_factory.mktemp("sample")
    write_sample(out)
    return out


@pytest.fixture(scope="module")
def weekdays(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[float]]:
    """kWh of Tuesday to Thursday by hour of the day."""
    out = tmp_path_factory.mktemp("weekdays")
    write_sample(out, meterpoints=150, start=date(2021, 1, 5))
    by_hour = defaultdict(list)
    for start, kwh, _ in all_readings(out):
        by_hour[int(start[11:13])].append(kwh)
    return by_hour


def test_the_summary_counts_what_was_written(tmp_path: Path) -> None:
    summary = write_sample(tmp_path)

    assert summary == SampleSummary(files=100, readings=14_400, agreements=210, products=63, meterpoints=100)
    assert len(files_of(tmp_path)) == summary.files
    assert len(all_readings(tmp_path)) == summary.readings
    assert count(tmp_path, "SELECT * FROM agreement") == summary.agreements
    assert count(tmp_path, "SELECT * FROM product") == summary.products
    assert count(tmp_path, "SELECT * FROM meterpoint") == summary.meterpoints


def test_each_file_has_every_half_hour_of_one_meterpoint_once(sample: Path) -> None:
    first = datetime(2021, 1, 1)
    half_hours = [str(first + timedelta(minutes=30 * n)) for n in range(144)]

    for file in files_of(sample):
        readings = readings_of(file)
        assert sorted(start for start, _, _ in readings) == half_hours
        assert {meterpoint for _, _, meterpoint in readings} == {file.name.split("_")[0]}


def test_documents_have_only_columns_and_data_with_rows_in_no_order(sample: Path) -> None:
    for file in files_of(sample):
        document = document_of(file)
        assert list(document) == ["columns", "data"]
        starts = [start for start, _, _ in readings_of(file)]
        assert starts != sorted(starts)


def test_a_document_has_no_spaces_between_its_tokens(sample: Path) -> None:
    plain = next(file for file in files_of(sample) if file.suffix == ".json")

    assert re.match(rb'\{"columns":\["\w+","\w+","\w+"\],"data":\[\[', plain.read_bytes())


def test_some_files_have_another_column_order_and_some_are_gzipped(sample: Path) -> None:
    orders = Counter(tuple(document_of(file)["columns"]) for file in files_of(sample))
    suffixes = Counter(file.suffix for file in files_of(sample))

    assert orders.most_common(1)[0][0] == ("interval_start", "consumption_delta", "meterpoint_id")
    assert len(orders) > 2
    assert set(suffixes) == {".json", ".gz"}
    assert 0 < suffixes[".gz"] < 15


def test_consumption_has_three_decimals_and_is_never_negative(sample: Path) -> None:
    for _, kwh, _ in all_readings(sample):
        assert isinstance(kwh, float)
        assert 0 <= kwh < 20
        assert kwh == round(kwh, 3)


def test_the_database_has_the_real_tables_and_column_types(sample: Path) -> None:
    def columns(table: str) -> list[tuple[str, str]]:
        return [(row[1], row[2]) for row in query(sample, f"PRAGMA table_info({table})")]

    assert columns("agreement") == [
        ("agreement_id", "INTEGER"),
        ("agreement_valid_from", "DATE"),
        ("agreement_valid_to", "DATE"),
        ("product_id", "TEXT"),
        ("meterpoint_id", "TEXT"),
        ("account_id", "TEXT"),
    ]
    assert columns("product") == [
        ("display_name", "TEXT"),
        ("is_variable", "INTEGER"),
        ("id", "INTEGER"),
        ("product_id", "TEXT"),
    ]
    assert columns("meterpoint") == [("region", "TEXT"), ("meterpoint_id", "TEXT")]


def test_keys_are_unique_and_references_hold(sample: Path) -> None:
    assert count(sample, "SELECT DISTINCT agreement_id FROM agreement") == 210
    assert count(sample, "SELECT DISTINCT product_id FROM product") == 63
    assert count(sample, "SELECT DISTINCT id FROM product") == 63
    assert count(sample, "SELECT * FROM agreement WHERE product_id NOT IN (SELECT product_id FROM product)") == 0
    assert (
        count(sample, "SELECT * FROM agreement WHERE meterpoint_id NOT IN (SELECT meterpoint_id FROM meterpoint)") == 0
    )
    in_database = {row[0] for row in query(sample, "SELECT meterpoint_id FROM meterpoint")}
    assert in_database == {file.name.split("_")[0] for file in files_of(sample)}


def test_values_of_the_database_have_their_real_form(sample: Path) -> None:
    for first, end, meterpoint, account in query(
        sample, "SELECT agreement_valid_from, agreement_valid_to, meterpoint_id, account_id FROM agreement"
    ):
        assert date.fromisoformat(first) <= date.fromisoformat(end or "9999-12-31")
        assert re.fullmatch("[0-9a-f]{10}", meterpoint)
        assert re.fullmatch("A-[0-9A-F]{8}", account)


def test_several_products_share_a_display_name_and_some_are_variable(sample: Path) -> None:
    assert count(sample, "SELECT DISTINCT display_name FROM product") == 27
    assert query(sample, "SELECT DISTINCT is_variable FROM product ORDER BY 1") == [(0,), (1,)]
    assert count(sample, "SELECT DISTINCT display_name, is_variable FROM product") == 27


@pytest.mark.parametrize(("start", "days"), [(START, 3), (date(2016, 2, 28), 2), (date(2024, 7, 30), 31)])
def test_each_irregularity_of_agreements_is_there_for_any_dates(tmp_path: Path, start: date, days: int) -> None:
    write_sample(tmp_path, start=start, days=days)

    first, end = f"'{start}'", f"'{start + timedelta(days=days)}'"
    inside = f"> {first} AND a.agreement_valid_to < {end}"
    pairs = "agreement a JOIN agreement b ON a.meterpoint_id = b.meterpoint_id AND a.agreement_id <> b.agreement_id"
    both_hold = (  # on the day on which a begins
        f"{pairs} WHERE ifnull(a.agreement_valid_to, '9999-12-31') > a.agreement_valid_from "
        "AND ifnull(b.agreement_valid_to, '9999-12-31') > a.agreement_valid_from"
    )
    later = "SELECT * FROM agreement b WHERE b.meterpoint_id = a.meterpoint_id AND b.agreement_valid_from >= "
    of_each = "SELECT meterpoint_id FROM agreement GROUP BY meterpoint_id"
    kinds = {
        "zero length": "SELECT * FROM agreement WHERE agreement_valid_to = agreement_valid_from",
        "overlapping": f"SELECT * FROM {both_hold} AND b.agreement_valid_from < a.agreement_valid_from",
        "overlapping, and the later has the lower id": f"SELECT * FROM {both_hold} "
        "AND b.agreement_valid_from < a.agreement_valid_from AND a.agreement_id < b.agreement_id",
        "begun on the same day": f"SELECT * FROM {both_hold} AND b.agreement_valid_from = a.agreement_valid_from",
        "open-ended": "SELECT * FROM agreement WHERE agreement_valid_to IS NULL",
        "changed inside": f"SELECT * FROM {pairs} WHERE a.agreement_valid_to {inside} "
        "AND b.agreement_valid_from = a.agreement_valid_to",
        "ended inside": f"SELECT * FROM agreement a WHERE agreement_valid_to {inside} "
        f"AND NOT EXISTS ({later} a.agreement_valid_to)",
        "long ended": f"SELECT * FROM agreement WHERE agreement_valid_to < date({first}, '-180 days')",
        "future": f"SELECT * FROM agreement WHERE agreement_valid_from > {end}",
        "never any": "SELECT * FROM meterpoint WHERE meterpoint_id NOT IN (SELECT meterpoint_id FROM agreement)",
        "none then, but before": f"{of_each} HAVING max(ifnull(agreement_valid_to, '9999-12-31')) < {first}",
        "none then, but after": f"{of_each} HAVING min(agreement_valid_from) > {end}",
    }
    assert [kind for kind, sql in kinds.items() if count(tmp_path, sql) == 0] == []


def test_most_meterpoints_have_exactly_one_agreement_on_each_day(sample: Path) -> None:
    holding = query(
        sample,
        "SELECT meterpoint_id, count(*) FROM agreement WHERE agreement_valid_from <= '2021-01-01' "
        "AND ifnull(agreement_valid_to, '9999-12-31') > '2021-01-01' GROUP BY 1",
    )

    assert sum(number == 1 for _, number in holding) > 85


def test_a_mean_day_has_a_night_base_and_a_higher_morning_and_evening(weekdays: dict[int, list[float]]) -> None:
    evening, morning, night = (
        mean(kwh for hour in hours for kwh in weekdays[hour]) for hours in ((17, 18, 19), (6, 7), (2, 3, 4))
    )

    assert evening > 1.5 * night
    assert evening > 1.2 * morning
    assert morning > 1.1 * night


def test_the_median_home_uses_little_at_night_and_peaks_in_morning_and_evening(
    weekdays: dict[int, list[float]],
) -> None:
    median = {hour: sorted(values)[len(values) // 2] for hour, values in weekdays.items()}

    assert median[18] > 3 * median[3]
    assert median[7] > 1.5 * median[3]
    assert median[7] > 1.2 * median[10]


def test_homes_use_8_to_14_kwh_on_a_january_day_and_differ_from_each_other(sample: Path) -> None:
    daily: dict[str, float] = defaultdict(float)
    for _, kwh, meterpoint in all_readings(sample):
        daily[meterpoint] += kwh / 3

    ordered = sorted(daily.values())
    assert 8 < mean(ordered) < 14
    assert ordered[90] > 3 * ordered[10]


def test_a_home_uses_less_in_july(sample: Path, tmp_path: Path) -> None:
    write_sample(tmp_path, start=date(2021, 7, 2))

    january, july = (mean(kwh for _, kwh, _ in all_readings(out)) for out in (sample, tmp_path))
    assert july < 0.85 * january


def test_weekend_mornings_begin_later(tmp_path: Path) -> None:
    write_sample(tmp_path, meterpoints=60, days=7, start=date(2021, 1, 4))

    early: dict[bool, list[float]] = {True: [], False: []}
    for start, kwh, _ in all_readings(tmp_path):
        if start[11:13] == "07":
            early[datetime.fromisoformat(start).weekday() >= 5].append(kwh)
    assert mean(early[True]) < 0.9 * mean(early[False])


def test_a_day_in_march_has_46_half_hours_and_none_that_does_not_exist(tmp_path: Path) -> None:
    summary = write_sample(tmp_path, meterpoints=5, days=1, start=date(2021, 3, 28))

    assert summary.readings == 5 * 46
    for file in files_of(tmp_path):
        starts = {start for start, _, _ in readings_of(file)}
        assert len(starts) == 46
        assert not any(" 01:" in start for start in starts)


def test_a_day_in_october_has_50_half_hours_with_the_hour_after_one_twice(tmp_path: Path) -> None:
    summary = write_sample(tmp_path, meterpoints=5, days=1, start=date(2021, 10, 31))

    assert summary.readings == 5 * 50
    for file in files_of(tmp_path):
        starts = Counter(start for start, _, _ in readings_of(file))
        twice = {start for start, times in starts.items() if times == 2}
        assert twice == {"2021-10-31 01:00:00", "2021-10-31 01:30:00"}
        assert len(starts) == 48


def test_readings_of_the_doubled_hour_are_in_true_order_among_shuffled_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def number_of_half_hour(
        homes: npt.NDArray[np.void], half_hours: list[datetime], _: object
    ) -> npt.NDArray[np.float64]:
        return np.tile(np.arange(len(half_hours), dtype=float), (len(homes), 1))

    monkeypatch.setattr("jobs.sample._consumption", number_of_half_hour)
    write_sample(tmp_path, meterpoints=30, days=2, start=date(2021, 10, 30))

    for file in files_of(tmp_path):
        numbers = defaultdict(list)
        for start, number, _ in readings_of(file):
            numbers[start].append(number)
        assert numbers.pop("2021-10-31 01:00:00") == [50, 52]
        assert numbers.pop("2021-10-31 01:30:00") == [51, 53]
        assert [number for _, (number,) in sorted(numbers.items())] == [*range(50), *range(54, 98)]


def test_the_same_arguments_give_the_same_sample(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_sample(tmp_path / name, meterpoints=50, seed=7)

    one, two = ({file.name: file.read_bytes() for file in files_of(tmp_path / name)} for name in ("one", "two"))
    assert one == two
    for table in ("agreement", "product", "meterpoint"):
        assert query(tmp_path / "one", f"SELECT * FROM {table}") == query(tmp_path / "two", f"SELECT * FROM {table}")


def test_another_seed_gives_other_meterpoints(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_sample(tmp_path / str(seed), meterpoints=5, seed=seed)

    assert not {file.name for file in files_of(tmp_path / "1")} & {file.name for file in files_of(tmp_path / "2")}


def test_the_same_seed_gives_the_same_meterpoints_on_later_dates(tmp_path: Path) -> None:
    for start in (START, date(2021, 1, 4)):
        write_sample(tmp_path / str(start), meterpoints=5, start=start)

    regions = "SELECT * FROM meterpoint"
    assert query(tmp_path / "2021-01-01", regions) == query(tmp_path / "2021-01-04", regions)


def test_a_large_sample_is_spread_over_folders_and_keeps_the_shares(tmp_path: Path) -> None:
    done: list[int] = []

    summary = write_sample(tmp_path, meterpoints=1_100, days=1, progress=done.append)

    assert summary == SampleSummary(files=1_100, readings=52_800, agreements=2_310, products=63, meterpoints=1_100)
    files = files_of(tmp_path)
    assert len({file.name for file in files}) == 1_100
    assert all(file.parent.name == file.name[:2] for file in files)
    assert count(tmp_path, "SELECT * FROM agreement WHERE agreement_valid_to = agreement_valid_from") == 66
    assert done == sorted(set(done))
    assert done[-1] == 1_100


def test_a_small_sample_is_flat(sample: Path) -> None:
    assert {file.parent for file in files_of(sample)} == {sample / "readings"}


def test_nothing_unfinished_is_left(sample: Path) -> None:
    assert not [path for path in sample.rglob("*") if path.name.startswith(".") or path.suffix == ".part"]


def test_a_database_that_is_there_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "case_study.db").write_bytes(b"not ours")

    with pytest.raises(FileExistsError, match=r"case_study\.db already exists"):
        write_sample(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["case_study.db"]
    assert (tmp_path / "case_study.db").read_bytes() == b"not ours"


def test_readings_that_are_there_are_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "readings" / "2021").mkdir(parents=True)
    (tmp_path / "readings" / "2021" / "mine.json").write_text("{}")

    with pytest.raises(FileExistsError, match=r"mine\.json already exists"):
        write_sample(tmp_path)

    assert not (tmp_path / "case_study.db").exists()
    assert len(files_of(tmp_path)) == 1


def test_an_empty_landing_place_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "readings").mkdir()

    assert write_sample(tmp_path, meterpoints=2).files == 2


@pytest.mark.parametrize("wrong", [{"meterpoints": 0}, {"days": 0}, {"seed": -1}])
def test_numbers_that_make_no_sample_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="a sample needs"):
        write_sample(tmp_path / "out", **wrong)  # type: ignore[arg-type]

    assert not (tmp_path / "out").exists()
