"""Which readings count: any order of versions, retractions and rollbacks ends as the model says."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.readings.ingest import CLAIMS_SCHEMA, READINGS_SCHEMA
from jobs.readings.merge import Changes, Merged, merge, replace
from tests.model.deliveries import Claim, Deliveries, Key, Reading

NOON = datetime(2021, 1, 1, 12, tzinfo=UTC)
FILES, METERPOINTS = ("a.json", "b.json", "c.json"), ("m1", "m2")
EMPTY = Merged(READINGS_SCHEMA.empty_table(), READINGS_SCHEMA.empty_table(), CLAIMS_SCHEMA.empty_table())

readings = st.builds(
    lambda meterpoint, half_hours, kwh: Reading(meterpoint, NOON + timedelta(minutes=30 * half_hours), float(kwh)),
    st.sampled_from(METERPOINTS),
    st.sampled_from([0, 1, 2, 48, 49]),  # two dates
    st.integers(0, 3),
)
contents = st.lists(readings, max_size=6, unique_by=lambda each: each[:2]).map(tuple)
versions = st.tuples(
    st.sampled_from(FILES), st.integers(0, 5).map(lambda hours: NOON + timedelta(hours=hours)), contents
)


@dataclass
class Product:
    """The dates of a lakehouse, each as merge leaves it."""

    dates: dict[date, Merged] = field(default_factory=dict)
    undone: list[dict[date, Merged]] = field(default_factory=list)
    superseded: list[dict[str, Any]] = field(default_factory=list)  # with `until`, the load that ended the value

    def apply(
        self, load: str, new: list[tuple[str, datetime, tuple[Reading, ...]]], dropped: pc.Expression | None
    ) -> None:
        self.undone.append(dict(self.dates))
        days = {each.start.date() for *_, content in new for each in content} | (
            set(self.dates) if dropped is not None else set()
        )
        for day in sorted(days):
            held = self.dates.get(day, EMPTY)
            rows = [
                {
                    "meterpoint_id": each.meterpoint_id,
                    "interval_start": each.start,
                    "interval_start_utc": each.start,
                    "consumption_kwh": Decimal(each.kwh),
                    "source_file": file,
                    "load_id": load,
                }
                for file, _, content in new
                for each in content
                if each.start.date() == day
            ]
            spoken = {(str(row["source_file"]), str(row["meterpoint_id"])) for row in rows}
            modified = {file: modified_at for file, modified_at, _ in new}
            claims = [
                {"source_file": file, "meterpoint_id": m, "load_id": load, "modified_at": modified[file], "readings": 1}
                for file, m in spoken
            ]
            held_rows = with_is_new(pa.concat_tables([held.readings, held.contested]), False)
            all_rows = pa.concat_tables([held_rows, with_is_new(pa.Table.from_pylist(rows, READINGS_SCHEMA), True)])
            is_dropped = held.claims.filter(dropped)["load_id"].to_pylist() if dropped is not None else []
            held_claims = flagged(held.claims, False, is_dropped)
            merged = merge(
                all_rows,
                pa.concat_tables([held_claims, flagged(pa.Table.from_pylist(claims, CLAIMS_SCHEMA), True, [])]),
            )
            replaced = replace(held.readings, merged.readings, load)
            assert replaced.readings.drop(["known_from"]) == merged.readings.drop(["known_from"])
            self.superseded += [row | {"until": load} for row in replaced.superseded.to_pylist()]
            self.dates[day] = merged._replace(readings=replaced.readings)

    def believed(self) -> dict[tuple[str, datetime], tuple[float, str]]:
        rows = [row for each in self.dates.values() for row in each.readings.to_pylist()]
        found = {
            (row["meterpoint_id"], row["interval_start_utc"]): (float(row["consumption_kwh"]), row["source_file"])
            for row in rows
        }
        assert len(found) == len(rows)
        return found

    def as_of(self, load: str) -> dict[tuple[str, datetime], float]:
        """What was known when a load had ended, as silver.readings_as_of says it."""
        now = [row for each in self.dates.values() for row in each.readings.to_pylist() if row["known_from"] <= load]
        then = [row for row in self.superseded if row["known_from"] <= load < row["until"]]
        found = {(row["meterpoint_id"], row["interval_start_utc"]): float(row["consumption_kwh"]) for row in now + then}
        assert len(found) == len(now) + len(then)
        return found


def flagged(claims: pa.Table, is_new: bool, dropped_loads: list[str]) -> pa.Table:
    is_dropped = pc.is_in(claims["load_id"], pa.array(dropped_loads, pa.string()))
    return with_is_new(claims, is_new).append_column("is_dropped", is_dropped)


def with_is_new(rows: pa.Table, is_new: bool) -> pa.Table:
    return rows.append_column("is_new", pa.repeat(is_new, rows.num_rows))


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.lists(versions, max_size=3, unique_by=lambda each: each[0]), st.just("rollback"), st.just("retract")
        ),
        max_size=8,
    )
)
def test_any_order_of_versions_retractions_and_rollbacks_ends_as_the_model_says(steps: list[Any]) -> None:
    model, product = Deliveries(), Product()

    for number, step in enumerate(steps):
        load = f"load-{number}"
        if step == "rollback":
            if model.undone:
                model.rollback()
                product.dates = product.undone.pop()
        elif step == "retract":
            loads = {claim.load for claim in model.claims.values()}
            if loads:
                target = min(loads)
                model.retract(load, lambda key, claim, target=target: claim.load == target)  # type: ignore[misc]
                product.apply(load, [], pc.field("load_id") == target)
        else:
            new = [version for version in step if model.known.get(version[0]) != version[2]]
            if model.load(load, step):
                product.apply(load, new, None)

        assert product.believed() == model.believed()


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.lists(versions, max_size=3, unique_by=lambda each: each[0]), st.just("retract")), max_size=8)
)
def test_what_was_known_after_each_load_can_be_told_after_all_later_ones(steps: list[Any]) -> None:
    model, product = Deliveries(), Product()
    known: dict[str, dict[tuple[str, datetime], float]] = {}

    for number, step in enumerate(steps):
        load = f"load-{number}"
        if step == "retract":
            loads = {claim.load for claim in model.claims.values()}
            if loads:
                target = min(loads)
                model.retract(load, lambda key, claim, target=target: claim.load == target)  # type: ignore[misc]
                product.apply(load, [], pc.field("load_id") == target)
        else:
            new = [version for version in step if model.known.get(version[0]) != version[2]]
            if model.load(load, step):
                product.apply(load, new, None)
        known[load] = {slot: kwh for slot, (kwh, _) in model.believed().items()}

    for load, then in known.items():
        assert product.as_of(load) == then


def test_what_a_file_gives_up_is_again_that_of_the_other_file_though_that_is_not_read_again() -> None:
    model, product = Deliveries(), Product()
    both = (Reading("m1", NOON, 1), Reading("m1", NOON + timedelta(minutes=30), 1))
    for number, version in enumerate(
        [
            ("a.json", NOON, both),
            ("b.json", NOON + timedelta(hours=1), both),
            ("b.json", NOON + timedelta(hours=2), both[1:]),
        ]
    ):
        model.load(f"load-{number}", [version])
        product.apply(f"load-{number}", [version], None)

    assert model.claims[Key("b.json", "m1", NOON.date())] == Claim(
        "load-2", NOON + timedelta(hours=2), both[1:], {both[1].start: 1}
    )
    assert product.believed() == {("m1", both[0].start): (1, "a.json"), ("m1", both[1].start): (1, "b.json")}
    assert product.dates[NOON.date()].contested.num_rows == 1


def content(*kwh: float | None, quality: str | None = None, load: str = "load-1") -> pa.Table:
    """Half hours of one meterpoint from noon on, None where there is no reading."""
    rows = [
        {
            "meterpoint_id": "m",
            "interval_start_utc": NOON + timedelta(minutes=30 * n),
            "consumption_kwh": Decimal(each),
            "load_id": load,
            "reading_quality": quality,
        }
        for n, each in enumerate(kwh)
        if each is not None
    ]
    return pa.Table.from_pylist(rows, READINGS_SCHEMA)


def test_changes_count_keys_that_are_new_gone_or_have_another_consumption() -> None:
    changes = replace(content(1, 2, 3, None), content(1, 5, None, 4), "load-2").changes

    assert changes == Changes(
        before=3, added=1, changed=1, removed=1, meterpoints=1, kwh_before=Decimal(6), kwh_after=Decimal(10)
    )
    assert replace(content(), content(), "load-2").changes == Changes(0, 0, 0, 0, 0, Decimal(0), Decimal(0))


def test_an_estimated_reading_that_becomes_an_actual_one_is_changed() -> None:
    replaced = replace(content(1, 2, quality="E"), content(1, 2, quality="A", load="load-2"), "load-2")

    assert replaced.changes.changed == 2
    assert replaced.superseded["reading_quality"].to_pylist() == ["E", "E"]


def test_a_value_that_stays_is_known_since_the_load_that_brought_it_first() -> None:
    """Also where an older version of the lakehouse did not record it, and where a later load brings it again."""
    replaced = replace(content(1, 2), content(1, 7, load="load-2"), "load-2")
    again = replace(replaced.readings, content(1, 7, load="load-3"), "load-3")

    assert replaced.readings["known_from"].to_pylist() == ["load-1", "load-2"]
    assert replaced.superseded["known_from"].to_pylist() == ["load-1"]
    assert again.readings["known_from"].to_pylist() == ["load-1", "load-2"]
    assert again.superseded.num_rows == 0
