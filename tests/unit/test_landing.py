"""What lies in the landing place, and its files, read one after the other or, from a store, some ahead."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import FileSystem, LocalFileSystem, SubTreeFileSystem

from jobs import landing
from jobs.landing import Content, NotRead, Opened, is_empty, look, open_file, read_ahead, time_of

NOW = datetime(2026, 11, 2, 7, 30, 15, 250_000, tzinfo=UTC)


@pytest.mark.parametrize("store", [False, True], ids=["disk", "store"])
def test_read_ahead__should_give_bytes_or_the_error_in_order(tmp_path: Path, store: bool) -> None:
    names = [f"{number}.json" for number in range(100)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode() * int(name.split(".")[0]))
    (tmp_path / names[50]).unlink()
    local = LocalFileSystem()
    file_system: FileSystem = SubTreeFileSystem(str(tmp_path), local) if store else local

    found = list(read_ahead(file_system, "" if store else str(tmp_path), names, threads=3))

    assert isinstance(found.pop(50), FileNotFoundError)
    assert [each.content for each in found if isinstance(each, Content)] == [
        name.encode() * number for number, name in enumerate(names) if number != 50
    ]
    assert len(found) == 99


def test_names__should_tell_what_is_read_what_is_being_written_and_what_is_ignored(tmp_path: Path) -> None:
    readings = ["a.json", "b.JSON", "c.json.gz", "d.jsonl", "e.ndjson.GZ", "deep/er/f.json", "line\nbreak=%.json"]
    passed_over = [
        ".hidden.json",
        "._x.json",
        ".folder/x.json",
        "x.json.part",
        "x.tmp",
        "~x.json",
        "Thumbs.db",
        "x.json~",
    ]
    ignored = ["notes.txt", "x.json.zip", "x.csv"]
    for name in [*readings, *passed_over, *ignored]:
        (tmp_path / "readings" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "readings" / name).touch()
    for age, name in enumerate(["new.sqlite3", "case.db", "Old.DB", "case.db-wal", ".x.db", "read.me"]):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1_000_000 - age, 1_000_000 - age))

    found = look(LocalFileSystem(), str(tmp_path))

    assert [file.source_file for file in found.readings] == sorted(f"readings/{name}" for name in readings)
    assert [file.source_file for file in found.reference] == ["new.sqlite3", "case.db", "Old.DB"]
    assert found.ignored == sorted([*(f"readings/{name}" for name in ignored), "read.me"])


def test_name_that_is_not_utf8__should_be_named_and_keep_no_other_out(tmp_path: Path) -> None:
    (tmp_path / "readings").mkdir()
    (tmp_path / "readings/good.json").touch()
    Path(os.fsdecode(os.fsencode(tmp_path / "readings") + b"/caf\xe9.json")).touch()

    found = look(LocalFileSystem(), str(tmp_path))

    assert [file.source_file for file in found.readings] == ["readings/good.json"]
    assert found.ignored == [r"readings/caf\xe9.json"]


def test_file__should_not_be_followed_out_of_the_landing_place_nor_be_read_without_end(tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    (landing / "version-1").mkdir(parents=True)
    (landing / "version-1/a.json").write_bytes(b"{}")
    (landing / "current").symlink_to("version-1")
    (landing / "secret.json").symlink_to("/proc/self/environ")
    (landing / "sibling.json").symlink_to(tmp_path / "landing-of-others")
    (landing / "loop.json").symlink_to("loop.json")
    os.mkfifo(landing / "pipe.json")

    def why(name: str, largest: int = 10) -> str:
        try:
            open_file(LocalFileSystem(), str(landing), name, largest).stream.close()
        except NotRead as error:
            return error.reason
        except OSError:
            return "error"
        return "read"

    assert why("current/a.json") == "read"  # a link inside is followed
    assert why("version-1/a.json", largest=1) == "too_large"
    assert why("secret.json") == why("sibling.json") == why("../landing-of-others") == "outside_landing"
    assert why("pipe.json") == "unreadable"
    assert why("loop.json") == why("gone.json") == "error"


@pytest.mark.parametrize("becomes", ["a file elsewhere", "a pipe", "a folder"])
def test_file_that_is_switched_while_it_is_looked_at__should_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, becomes: str
) -> None:
    landing_place, secret = tmp_path / "landing", tmp_path / "secret"
    landing_place.mkdir()
    (landing_place / "a.json").write_bytes(b"good")
    secret.write_bytes(b"secret")
    link = landing_place / "link.json"
    link.symlink_to("a.json")
    look_at = os.stat

    def switched(path: Any, *rest: Any, **more: Any) -> os.stat_result:
        seen = look_at(path, *rest, **more)
        if str(path) == str(link) and not rest and not more:
            link.unlink()
            if becomes == "a pipe":
                os.mkfifo(link)
            elif becomes == "a folder":
                link.mkdir()
            else:
                link.symlink_to(secret)
        return seen

    monkeypatch.setattr(os, "stat", switched)
    opened = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NotRead) as refused:
        open_file(LocalFileSystem(), str(landing_place), "link.json", 10)
    assert refused.value.reason == ("outside_landing" if becomes == "a file elsewhere" else "unreadable")
    assert len(os.listdir("/proc/self/fd")) == opened


def test_landing_place_that_is_a_link_and_is_switched__should_be_read_where_it_leads_now(tmp_path: Path) -> None:
    place = tmp_path / "landing"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.json").write_text(name)
        place.unlink(missing_ok=True)
        place.symlink_to(name)

        [found] = read_ahead(LocalFileSystem(), str(place), ["a.json"])
        assert isinstance(found, Content)
        assert found.content == name.encode()


def test_file_of_a_store__should_be_asked_for_once_so_that_it_is_of_one_version() -> None:
    class Replaced:
        """A file that is another one whenever it is asked for."""

        def __init__(self) -> None:
            self.versions = iter([b"first", b"second"])

        def read(self, size: int) -> bytes:
            return next(self.versions)

    assert landing._all_of(Replaced(), is_local=False) == b"first"


def test_folder_without_files__should_be_empty(tmp_path: Path) -> None:
    (tmp_path / "readings").mkdir()
    (tmp_path / ".gitkeep").touch()
    assert is_empty(LocalFileSystem(), str(tmp_path))
    assert is_empty(LocalFileSystem(), str(tmp_path / "missing"))

    (tmp_path / "readings/notes.txt").touch()
    assert not is_empty(LocalFileSystem(), str(tmp_path))


def test_linked_folders__should_be_walked_once_and_never_out_of_the_landing_place(tmp_path: Path) -> None:
    place, outside = tmp_path / "landing", tmp_path / "outside"
    for folder in (place / "readings" / "day", outside):
        folder.mkdir(parents=True)
        (folder / "a.json").write_text("{}")
    (place / "readings" / "current").symlink_to("day")
    (place / "readings" / "day" / "loop").symlink_to("..")
    (place / "readings" / "elsewhere").symlink_to(outside)
    (place / "readings" / "machine").symlink_to("/proc/self")
    (place / "readings" / ".draft\n.json").write_text("{")

    found = look(LocalFileSystem(), str(place))

    assert [file.source_file for file in found.readings] == ["readings/day/a.json"]
    assert found.ignored == ["readings/elsewhere", "readings/machine"]


def test_file_in_place_of_the_folder_of_readings__should_be_named(tmp_path: Path) -> None:
    (tmp_path / "readings").write_text("")

    found = look(LocalFileSystem(), str(tmp_path))

    assert not found.readings
    assert "readings" in found.ignored


def test_file_that_grows_over_the_limit_while_it_is_read__should_be_refused_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_bytes(b"12345")
    local = LocalFileSystem()
    monkeypatch.setattr(landing, "LARGEST_READINGS", 4)
    monkeypatch.setattr(landing, "open_file", lambda *_: Opened(local.open_input_stream(str(tmp_path / "a.json")), NOW))

    (found,) = read_ahead(local, str(tmp_path), ["a.json"])

    assert isinstance(found, NotRead)
    assert found.reason == "too_large"


@pytest.mark.parametrize(
    "name",
    [
        *("readings/a.json", "readings/B.JSON", "readings/deep/er/f.ndjson.GZ", "case_study.db", "x.SQLITE3"),
        *("a.json", "readings/a.csv", "readings/.hidden.json", "readings/.folder/x.json", "readings/x.json.part"),
        *("~x.db", "case_study.db-wal", "other/readings/a.json", "readings/deep/Thumbs.db"),
    ],
)
def test_input__should_be_there_as_the_listing_has_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    (tmp_path / "readings").mkdir(exist_ok=True)
    (tmp_path / "readings" / "again").symlink_to(tmp_path / "readings")

    found = look(LocalFileSystem(), str(tmp_path))

    assert landing.has_input(str(tmp_path)) == bool(found.readings or found.reference)


@pytest.mark.parametrize(
    ("opened", "expected"),
    [
        pytest.param(NOW, NOW, id="the listed one"),
        pytest.param(NOW.replace(microsecond=0), NOW, id="the listed one of an object store"),
        pytest.param(NOW + timedelta(seconds=1), NOW + timedelta(seconds=1), id="a later one"),
        pytest.param(NOW - timedelta(days=1), NOW - timedelta(days=1), id="an older one, moved there"),
    ],
)
def test_time_of__should_be_that_of_the_version_that_is_read(opened: datetime, expected: datetime) -> None:
    assert time_of(NOW, opened) == expected


@pytest.mark.parametrize("nanoseconds", [1_700_000_000_123_456_789, 0, -1_500, 1_999])
def test_file_that_is_opened_as_it_was_listed__should_have_the_time_of_the_listing(
    tmp_path: Path, nanoseconds: int
) -> None:
    (tmp_path / "readings").mkdir()
    file = tmp_path / "readings/a.json"
    file.write_bytes(b"{}")
    os.utime(file, ns=(nanoseconds, nanoseconds))
    [listed] = look(LocalFileSystem(), str(tmp_path)).readings

    opened = open_file(LocalFileSystem(), str(tmp_path), "readings/a.json", 10)

    opened.stream.close()
    assert time_of(listed.modified_at, opened.modified_at) == listed.modified_at
