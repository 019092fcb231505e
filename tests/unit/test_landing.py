"""Files of the landing place, read one after the other or, from a store, some ahead."""

from pathlib import Path

import pytest
from pyarrow.fs import FileSystem, LocalFileSystem, SubTreeFileSystem

from jobs.landing import read_ahead


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
