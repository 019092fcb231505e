"""How rows of a query are printed."""

import pytest

from jobs.query import Format, Result, show

WIDE = Result([f"a_column_{number}" for number in range(18)], [list(range(100, 118)), [None] * 18])


def test_wide_table__should_show_every_value_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)

    show(WIDE, Format.table)

    out = capsys.readouterr().out
    assert len(out.splitlines()) == 6
    assert all(name in out and str(value) in out for name, value in zip(WIDE.columns, WIDE.rows[0], strict=True))


def test_table_too_wide_for_a_terminal__should_be_a_line_a_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    show(WIDE, Format.table)

    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["a_column_0: 100", "a_column_1: 101"]
    assert lines[17:20] == ["a_column_17: 117", "", "a_column_0: "]


def test_table_that_fits__should_stay_one_and_fold_what_is_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")

    show(Result(["name", "text"], [["a", "b" * 50]]), Format.table)

    out = capsys.readouterr().out
    assert out.count("b") == 50
    assert {len(line) for line in out.splitlines()} == {40}


def test_table__should_fold_headings_before_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = ["product_display_name", "date", "meterpoint_count", "consumption_kwh", "received_share", "actual_share"]
    monkeypatch.setenv("COLUMNS", "80")

    show(Result(columns, [["Economy 7 12M Fixed", "2021-01-01", 9, "87.438000", "1.000000", None]]), Format.table)

    out = capsys.readouterr().out
    assert all(value in out for value in ("2021-01-01", "87.438000", "1.000000", "Economy 7"))
    assert len({len(line) for line in out.splitlines()}) == 1
    assert all(line[-1] in "┓┃┩│┘" for line in out.splitlines())
