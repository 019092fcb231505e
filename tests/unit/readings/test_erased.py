"""What is known of erased ids by their hashes alone."""

import gzip
import json
import unicodedata
from collections.abc import Callable
from datetime import date
from typing import Any

import pyarrow as pa
import pytest

from jobs.erasure.state import Pending
from jobs.erasure.who import who_of
from jobs.readings import erased, rules
from jobs.readings.erased import Erased, cut, key_id, stone
from jobs.readings.parse import parse_file
from jobs.readings.rules import spelling

KEY = b"k" * 32
ID, SHORT, NUMBER, ODD, ACCOUNT, MOVED = "0432df65f7", "7", "1234567", "MP 17/b", "Konto é", "99aa88bb77"
STONES = [
    *(stone(KEY, "meterpoint", name) for name in (ID, SHORT, NUMBER, ODD)),
    stone(KEY, "account", ACCOUNT),
    stone(KEY, "tenancy", MOVED, date(2021, 1, 2), date(2021, 1, 3)),
]
ERASED = Erased.of({key_id(KEY): KEY}, STONES)
WHO = who_of(Pending([ID, SHORT, NUMBER, ODD], [ACCOUNT], [(MOVED, "2021-01-02", "2021-01-03")]))


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("typed", "loaded"),
    [
        (" a1\u200b ", "a1"),
        ("e\u0301", "é"),
        ("a b", "a b"),
        ("a\tb", "ab"),
        ("\ufeffA1", "A1"),
        (" \u00a0", ""),
    ],
)
def test_spelling__should_be_that_with_which_rows_are_loaded(typed: str, loaded: str) -> None:
    assert spelling(typed) == loaded


def test_long_ids__should_not_be_remembered() -> None:
    def held() -> list[int]:
        caches = (rules._fault_of_id, rules._short_spelling, erased._short_digest)
        return [cache.cache_info().currsize for cache in caches]

    erased._short_digest.cache_clear()
    before = held()

    assert rules.fault_of_id("x" * 257) == "meterpoint_id_too_long"
    assert rules.fault_of_id(" \u200b" * 300) == "meterpoint_id_empty"
    assert spelling(f" {'x' * 300} ") == "x" * 300
    assert erased.digest(KEY, "x" * 300) != erased.digest(KEY, "x" * 301)

    assert held() == before


def test_stone__should_not_hold_the_id() -> None:
    assert ID not in json.dumps(STONES, default=str)


@pytest.mark.parametrize("name", [ID, f" {ID} ", f"\u200b{ID}", SHORT, ODD])
def test_meterpoint__should_be_known_in_each_spelling(name: str) -> None:
    assert ERASED.has_meterpoint(name)


@pytest.mark.parametrize("name", [ID.upper(), ID[:-1], "8", "MP 17", "", ACCOUNT])
def test_meterpoint__should_not_be_taken_for_another(name: str) -> None:
    assert not ERASED.has_meterpoint(name)


def test_id__should_be_known_by_each_key_that_is_there() -> None:
    other = b"o" * 32
    stones = [stone(KEY, "meterpoint", ID), stone(other, "meterpoint", MOVED)]

    both = Erased.of({key_id(KEY): KEY, key_id(other): other}, stones)
    one = Erased.of({key_id(KEY): KEY}, stones)

    assert both.has_meterpoint(ID)
    assert both.has_meterpoint(MOVED)
    assert not one.has_meterpoint(MOVED)


@pytest.mark.parametrize(
    ("name", "is_redacted"),
    [
        (f"readings/{ID}.json", True),
        (f"readings/{ID.upper()}_2021.json.gz", True),
        (f"readings/mp{ID}x/a.json", True),
        ("readings/mp 17/B.json", True),
        ("readings/7.json", True),
        ("7/a.json", True),
        (f"readings/{unicodedata.normalize('NFD', ACCOUNT)}.json", True),
        (f"readings/\u0130_{ID.upper()}.json", True),  # a letter of which the small one is two
        ("readings/2021-01-07.json", False),
        ("readings/17.json", False),
        (f"readings/{ID[1:]}.json", False),
        (f"readings/{MOVED}.json", False),
    ],
)
def test_name__should_have_an_alias_in_the_place_of_an_id(name: str, is_redacted: bool) -> None:
    redacted = ERASED.redacted(name)

    assert (redacted != name, ID.lower() in redacted.lower()) == (is_redacted, False)
    assert redacted.count("erased-") == is_redacted
    assert ERASED.redacted(redacted) == redacted


def test_names__should_stay_different_with_aliases() -> None:
    names = [f"{ID}.json", f"{ID.upper()}.json", f"{ID}_2.json", f"a/{ID}.json", f"{ID.upper()}x.json"]

    assert len(set(map(ERASED.redacted, names))) == len(names)


@pytest.mark.parametrize("packed", [bytes, gzip.compress, lambda content: gzip.compress(content)[:-9]])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
def test_content__should_be_looked_through_packed_or_not(packed: type[bytes], encoding: str) -> None:
    def content(name: str) -> bytes:
        return packed(f'{{"data": [["2021-01-07 00:00:00", 1, "{name}"'.encode(encoding))

    assert [ERASED.holds(content(name)) for name in (ID, SHORT, "other")] == [True, True, False]


def test_rows__should_go_with_their_ids_and_others_stay_as_they_are() -> None:
    rows = [
        ["2021-01-01 00:00:00", 1, ID],
        ["2021-01-01 00:30:00", 2, MOVED],
        ["2021-01-02 00:00:00", 3, MOVED],
        ["2021-01-04 00:00:00", 4, MOVED],
        ["2021-01-01 00:00:00", -1, ID],
        ["2021-01-01 00:00:00", 1, f"{ID} "],
        ["2021-01-03 00:00:00", -1, MOVED],
        ["2021-01-04 00:00:00", -1, MOVED],
        [f" {ID}"],
        ["other"],
    ]
    columns = ["interval_start", "consumption_delta", "meterpoint_id"]
    parsed = parse_file("a.json", json.dumps({"columns": columns, "data": rows}).encode(), 2**62)

    kept = parsed.good.filter(pa.array(~ERASED.gone(parsed.good))).to_pylist()

    assert [(each["meterpoint_id"], each["consumption_kwh"]) for each in kept] == [(MOVED, 2), (MOVED, 4)]
    assert [each.position for each in ERASED.without(parsed.rejected)] == [7, 9]
    assert not Erased().gone(parsed.good).any()
    assert Erased().without(parsed.rejected) == parsed.rejected


@pytest.mark.parametrize("spell", [lambda text: text, lambda text: text.replace("é", "\\u00e9"), decomposed])
def test_content__should_be_looked_through_in_each_spelling_of_a_letter(spell: Callable[[str], str]) -> None:
    assert ERASED.holds(spell(f'["{ACCOUNT}"').encode())
    assert not ERASED.holds(spell('["Konto ê"').encode())


@pytest.mark.parametrize(
    ("row", "is_said"),
    [
        ({"meterpoint_id": "x", "account_id": f" {ACCOUNT}"}, True),
        (["x", ID], True),
        ({"meterpoint_id": 7, "account_id": None}, True),
        ({"meterpoint_id": 7.0}, True),
        ({"consumption_delta": 7, "meterpoint_id": "x"}, False),
        (["2021-01-01 00:00:00", 7, "x"], False),
        ({"consumption_delta": 1234567, "meterpoint_id": "x"}, False),
        ({"meterpoint_id": 1234567}, True),
        (["2021-01-01 00:00:00", 1234567], True),
        ({"meterpoint_id": [{"id": [f"{ID}\u200b"]}]}, True),
        ({"meterpoint_id": f"MP-{ID.upper()}!"}, True),
        ({"meterpoint_id": f"{ID}8"}, False),
        ({"meterpoint_id": True}, False),
    ],
)
def test_row_as_it_was_delivered__should_be_known_by_any_of_its_values(row: Any, is_said: bool) -> None:
    assert ERASED.says(json.dumps(row)) == is_said
    assert WHO.says(json.dumps(row), None) == is_said


def test_row_that_is_no_json__should_name_nobody() -> None:
    assert not ERASED.says("no JSON")
    assert not ERASED.says("[" * 100_000)


def test_dates__should_be_cut_by_those_of_another() -> None:
    def days(first: int, last: int) -> tuple[date, date]:
        return date(2021, 1, first), date(2021, 1, last)

    assert cut(days(1, 9), days(4, 5)) == [days(1, 3), days(6, 9)]
    assert cut(days(1, 9), days(1, 9)) == []
    assert cut(days(1, 9), days(5, 20)) == [days(1, 4)]
    assert cut(days(4, 9), days(1, 5)) == [days(6, 9)]
    assert cut(days(4, 9), days(1, 3)) == [days(4, 9)]
    assert cut(days(4, 9), days(10, 12)) == [days(4, 9)]
    assert cut(days(4, 9), (date.min, date(2021, 1, 4))) == [days(5, 9)]
    assert cut((date.min, date.max), (date.min, date.max)) == []
