"""Sentences of what expectations found."""

from typing import Any

import pytest

from jobs.wording import percent, told


@pytest.mark.parametrize(
    ("template", "value", "limits", "text"),
    [
        ("{share} of days", 0.0633333, {"max_value": 0.05}, "6.3 % of days, expected at most 5 %"),
        ("{share} of days", 0.0500001, {"min_value": 0, "max_value": 0.05}, "5.00001 % of days, expected at most 5 %"),
        ("{share} of days", 0.00123, {"max_value": 0.001}, "0.12 % of days, expected at most 0.1 %"),
        ("changed by {share}", -0.25, {"min_value": -0.1}, "changed by -25 %, expected at least -10 %"),
        ("rows: {number}", 1234, {"min_value": 0, "max_value": 0}, "rows: 1,234, expected none"),
        ("regions: {number}", 15, {"max_value": 14}, "regions: 15, expected at most 14"),
        ("mean: {number} kWh", 12, {"min_value": 0.05, "max_value": 1}, "mean: 12 kWh, expected 0.05 to 1"),
        ("rows: {number}", None, {"max_value": 0}, "rows: unknown"),
    ],
)
def test_sentence__should_tell_what_there_is_and_then_what_was_expected(
    template: str, value: Any, limits: dict[str, float], text: str
) -> None:
    assert told(template, value, f"{value:,}" if value is not None else "no value", limits) == text


def test_share__should_have_decimals_enough_to_be_told_from_its_limit() -> None:
    assert [percent(share) for share in (0, 0.5, 1, 0.123)] == ["0 %", "50 %", "100 %", "12.3 %"]
    assert percent(0.01001, unlike=["1 %"]) == "1.001 %"
