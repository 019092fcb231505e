"""Time-of-use periods: what a file may say, and what the command says of one that will not do."""

import random
from datetime import date, datetime, timedelta

import pytest
from hypothesis import strategies as st

from jobs import periods
from tests.integration.oracle import PERIODS, in_periods
from tests.unit.examples import examples

HEAD = "scheme,period,from,to,weekdays\n"
MONDAY = date(2021, 1, 4)


def slots(text: str) -> dict[tuple[str, int], str]:
    """The period of each scheme and half hour of the week."""
    rules = periods.read(text.encode(), "f.csv")
    found = [((rule.scheme, half_hour), rule.period) for rule in rules for half_hour in rule.half_hours]
    assert len(dict(found)) == len(found), "a half hour is in two periods"
    return dict(found)


def told(text: str | bytes) -> list[str]:
    with pytest.raises(periods.PeriodsError) as error:
        periods.read(text.encode() if isinstance(text, str) else text, "f.csv")
    return str(error.value).splitlines()


def test_each_half_hour__should_be_in_the_period_that_the_clock_says() -> None:
    starts = [datetime(2021, 1, 4) + timedelta(minutes=30 * number) for number in range(periods.A_WEEK)]

    assert slots(PERIODS) == {
        (scheme, number): period for number, start in enumerate(starts) for scheme, period in in_periods(start)
    }


cuts = st.lists(st.integers(0, 47), min_size=1, max_size=6, unique=True)


def test_cuts_of_a_day_at_any_half_hours__should_cover_the_week_once() -> None:
    """Of each example the periods reach from one cut to the next, past midnight too."""
    for example in examples(cuts, 200):
        times = sorted(example)
        clock = [f"{cut // 2:02}:{cut % 2 * 30:02}" for cut in times]
        ends = [*clock[1:], clock[0]]
        lines = [f"s,p{n},{start},{end},Mon-Sun" for n, (start, end) in enumerate(zip(clock, ends, strict=True))]
        random.Random(1).shuffle(lines)

        found = slots(HEAD + "\n".join(lines))

        for half_hour in range(periods.A_WEEK):
            holding = [n for n, cut in enumerate(times) if cut <= half_hour % 48] or [len(times) - 1]
            assert found["s", half_hour] == f"p{holding[-1]}"


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "s,all,00:00,24:00,Mon-Sun\n",
        HEAD + "s,all,00:00,00:00,Mon-Sun",
        HEAD + "s,all,5:30,05:30,Mon-Sun\n",
        HEAD + "s,all,00:00,24:00,Sat-Fri\n",
        HEAD + "s,all,00:00,24:00,mon TUE Wed thu fri sat sun\n",
        HEAD + 's,all,00:00,24:00,"Mon,Tue, Wed-Sun"\n',
        HEAD + "s,all,00:00,24:00,Mon;Tue;Wed-Sun\n",
        HEAD + " s , all ,00:00,12:00, Mon-Sun \r\n\r\n,,,,\r\ns,all,12:00,24:00,Mon-Sun\r\n",
        "\ufeffweekdays,to,from,period,scheme\nMon-Sun,24:00,00:00,all,s\n",
    ],
)
def test_spellings_of_the_whole_week__should_be_taken(text: str) -> None:
    assert slots(text) == {("s", half_hour): "all" for half_hour in range(periods.A_WEEK)}


def test_a_file_without_rules__should_take_all_periods_away() -> None:
    assert periods.read(HEAD.encode(), "f.csv") == []


ALL = "s,all,00:00,24:00,Mon-Sun\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the first line must be scheme,period,from,to,weekdays, and is nothing"),
        (ALL, "the first line must be scheme,period,from,to,weekdays, and is s, all, 00:00, 24:00, mon-sun"),
        (HEAD.replace(",", ";") + ALL, "the first line must be scheme,period,from,to,weekdays, and is scheme;period;"),
        (HEAD.replace("weekdays", "days") + ALL, "the first line must be scheme,period,from,to,weekdays, and is"),
        (HEAD.replace("period", "scheme") + ALL, "the first line must be"),
        (HEAD + "s,all,00:00,24:00,Mon,Tue\n", "line 2: 6 values, and 5 columns; weekdays go without commas"),
        (HEAD + "s,all,00:00\n", "line 2: 3 values, and 5 columns"),
        (HEAD + "s,all,00:15,24:00,Mon-Sun\n", "line 2: from 00:15 is no full or half hour, and readings are of"),
        (HEAD + "s,all,00:00,24:30,Mon-Sun\n", "line 2: to '24:30' is no time; 07:30 is one"),
        (HEAD + "s,all,24:00,24:00,Mon-Sun\n", "line 2: from 24:00: a day begins at 00:00"),
        (HEAD + "s,all,7.30,24:00,Mon-Sun\n", "line 2: from '7.30' is no time"),
        (HEAD + "s,all,12:60,24:00,Mon-Sun\n", "line 2: from '12:60' is no time"),
        (HEAD + "s,all,-1:00,24:00,Mon-Sun\n", "line 2: from '-1:00' is no time"),
        (HEAD + "s,all,٠٧:٣٠,24:00,Mon-Sun\n", "line 2: from '٠٧:٣٠' is no time"),
        (HEAD + "s,all,,24:00,Mon-Sun\n", "line 2: from '' is no time"),
        (HEAD + "s,all,00:00,24:00,Mon-Son\n", "line 2: weekdays 'Mon-Son': 'Son' is none of Mon, Tue, Wed"),
        (HEAD + "s,all,00:00,24:00,\n", "line 2: weekdays '': '' is none of Mon, Tue"),
        (HEAD + "s,all,00:00,24:00,Mon-\n", "line 2: weekdays 'Mon-': '' is none of Mon"),
        (HEAD + ",all,00:00,24:00,Mon-Sun\n", "line 2: scheme must have 1 to 100 characters that can be printed"),
        (HEAD + f"s,{'p' * 101},00:00,24:00,Mon-Sun\n", "line 2: period must have 1 to 100 characters"),
        (HEAD + "s,a\x1b[2Jll,00:00,24:00,Mon-Sun\n", "line 2: period must have 1 to 100 characters"),
        (HEAD + ALL + 's,"all,00:00,24:00,Mon-Sun\n', "line 3: unexpected end of data"),
        (b"\xff\xfe" + HEAD.encode(), "is no UTF-8 text, from byte 0 on"),
        (HEAD + "\0", "is no text: it has zero bytes"),
        (HEAD + "#" * periods.LARGEST, "has 1,048,607 bytes, and 1,048,576 is the most"),
        # Gaps and overlaps, also where a period goes on into the next day.
        (HEAD + "s,all,00:00,24:00,Mon-Sat\n", "scheme 's' has no period from Sun 00:00 to Mon 00:00"),
        (
            HEAD + "s,all,00:30,24:00,Mon\n" + ALL.replace("Mon", "Tue"),
            "scheme 's' has no period from Mon 00:00 to Mon",
        ),
        (
            HEAD + ALL + "s,peak,16:00,19:00,Fri\n",
            "scheme 's' has 'all' (line 2) and 'peak' (line 3) from Fri 16:00 to",
        ),
        (HEAD + ALL + ALL, "scheme 's' has 'all' (line 2) and 'all' (line 3) from Mon 00:00 to Mon 00:00"),
        (
            HEAD + "s,day,06:00,22:00,Mon-Sun\ns,night,22:00,07:00,Sun\ns,night,22:00,06:00,Mon-Sat\n",
            "scheme 's' has 'day' (line 2) and 'night' (line 3) from Mon 06:00 to Mon 07:00",
        ),
        (HEAD + ALL + "other,all,00:00,12:00,Mon-Sun\n", "scheme 'other' has no period from Mon 12:00 to Tue 00:00"),
    ],
)
def test_a_mistake__should_be_told_in_a_line_that_names_the_file_and_the_place(
    text: str | bytes, expected: str
) -> None:
    first, *rest = told(text)

    assert first.startswith(f"f.csv: {expected}")
    assert all(line.startswith("f.csv: ") and len(line) < 300 and line.isprintable() for line in [first, *rest])


def test_many_mistakes__should_be_told_up_to_a_number() -> None:
    lines = told(HEAD + "s,all,1,2,3\n" * 50)

    assert len(lines) == periods.MOST_TOLD + 1
    assert lines[-1] == "f.csv: and 40 more"
