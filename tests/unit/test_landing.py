"""Files of the landing place, read one after the other or, from a store, some ahead."""

import os
from pathlib import Path

import pytest
from pyarrow.fs import FileSystem, LocalFileSystem, SubTreeFileSystem

from jobs.landing import delivered_readings, delivered_reference, is_empty, read_ahead


@pytest.mark.parametrize("store", [False, True], ids=["disk", "store"])
def test_read_ahead__should_give_bytes_or_the_error_in_order(tmp_path: Path, store: bool) -> None:
    names = [f"{number}.json" for number in range(100)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode() * int(name.split(".")[0]))
    (tmp_path / names[50]).unlink()
    local = LocalFileSystem()
    file_system: FileSystem = SubTreeFileSystem(str(tmp_path), local) if store else local
    paths = names if store else [str(tmp_path / name) for name in names]

    found = list(read_ahead(file_system, paths, threads=3))

    assert isinstance(found.pop(50), FileNotFoundError)
    assert found == [name.encode() * number for number, name in enumerate(names) if number != 50]


def test_name_that_is_not_utf8__should_be_an_error_that_tells_it(tmp_path: Path) -> None:
    (tmp_path / "readings").mkdir()
    (tmp_path / "readings/good.json").touch()
    Path(os.fsdecode(os.fsencode(tmp_path / "readings") + b"/caf\xe9.txt")).touch()

    with pytest.raises(OSError, match=r"not UTF-8, rename or remove it: .*readings/caf\\xe9.txt"):
        delivered_readings(LocalFileSystem(), str(tmp_path))


def test_folder_without_files__should_be_empty(tmp_path: Path) -> None:
    (tmp_path / "readings").mkdir()
    (tmp_path / ".gitkeep").touch()
    assert is_empty(LocalFileSystem(), str(tmp_path))
    assert is_empty(LocalFileSystem(), str(tmp_path / "missing"))

    (tmp_path / "readings/notes.txt").touch()
    assert not is_empty(LocalFileSystem(), str(tmp_path))


def test_a_file_that_is_still_written_under_another_name__should_not_be_seen(tmp_path: Path) -> None:
    (tmp_path / "readings").mkdir()
    for name in ("whole.json", ".half.json", "half.json.part", "half.json.gz.tmp", ".half.json.gz"):
        (tmp_path / "readings" / name).touch()
    for name in ("whole.db", ".half.db", "half.db.part"):
        (tmp_path / name).touch()

    (readings,) = delivered_readings(LocalFileSystem(), str(tmp_path))
    (reference,) = delivered_reference(LocalFileSystem(), str(tmp_path))

    assert (readings.source_file, reference.source_file) == ("readings/whole.json", "whole.db")
