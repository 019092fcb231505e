"""Numbers in sentences: counts with their nouns, shares as per cent, what was found beside what was expected."""

from collections.abc import Mapping
from typing import Any


def told(template: str, value: Any, shown: str, kwargs: Mapping[str, Any]) -> str:
    """The sentence of a template such as "{share} of days are incomplete" or "rows that were left out: {number}".

    `value` is what was measured and `shown` its text; shares are told as per cent. `kwargs` are the limits.
    """
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if value is None:
        return template.format(share="an unknown share", number="unknown")
    if "{share}" in template:
        limits = [None if limit is None else percent(limit) for limit in (low, high)]
        text = template.format(share=percent(value, unlike=limits))
    else:
        limits = [None if limit is None else f"{limit:,}" for limit in (low, high)]
        text = template.format(number=shown)
    return f"{text}, expected {_between(*limits, is_share='{share}' in template)}"


def counted(count: int, noun: str) -> str:
    """ "1 file", "2 files"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(share: Any, unlike: Any = ()) -> str:
    """A share as per cent, with one decimal, or as many as it takes to tell it from limits."""
    text = ""
    for decimals in (1, 2, 4, 8):
        text = f"{round(100 * float(share), decimals):g} %"
        if text not in unlike:
            break
    return text


def _between(low: str | None, high: str | None, *, is_share: bool) -> str:
    if low == high:
        return "none" if low == "0" else str(low)
    if high is None:
        return f"at least {low}"
    if low is None or (is_share and low == "0 %"):
        return f"at most {high}"
    return f"{low} to {high}"
