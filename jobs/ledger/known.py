"""Which files are known, found by key: a state of some gigabytes for 100 million files, of which a lookup reads blocks.

ops.load_files is the truth. The state is derived from it, and can be made anew from it at any time. It has an entry for
the newest version of each file that loads took: a keyed hash of the name, a keyed hash of name, size and modification
time, and the second at which the load began. The greatest second is the newest version, so entries may be added twice
or in any order. Loads of the first versions could begin in one second: a file of which two of them took versions is
known, but by no hash.

Entries are kept in runs, files that never change, sorted by key. Each load adds a small run; MANY runs of about the
same size are merged into one, so that there are only some dozens. A manifest, which is replaced in one step, names the
runs and has a checksum of each of their blocks and of itself: what is damaged is seen, and never used.
"""

import hashlib
import json
import os
import secrets
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from pyarrow.fs import FileSelector, FileSystem

from jobs.errors import LakeError

MANIFEST = "manifest"
FORM = 1  # of the manifest and of runs; another form is as good as none
MANY = 8  # runs of about the same size that are merged
BLOCK = 1 << 17  # entries that are read at once
KEPT_SECONDS = 3_600  # for which a file stays that no manifest names
SMALL_RUN = 1 << 16  # entries up to which a run is as good as an empty one
SORTED_AT_ONCE = 1 << 23  # entries that are held when a state is made anew
THREADS = 8  # which wait for the store
NEITHER = np.uint64(0)  # in place of a hash: no version has it, but one in 2^64

Array = np.ndarray[Any, np.dtype[Any]]


class Damaged(Exception):
    """A file of the state is not what the manifest says."""


class Entries(NamedTuple):
    """Columns, an entry for each version of a file."""

    key: Array  # uint64, of the name
    version: Array  # uint64, of name, size and modification time
    second: Array  # uint32, since 1970: when the load began that took it

    def at(self, places: Array | slice) -> "Entries":
        return Entries(self.key[places], self.version[places], self.second[places])


TYPES: tuple[np.dtype[Any], ...] = (np.dtype("<u8"), np.dtype("<u8"), np.dtype("<u4"))  # of the columns, also in files
NONE = Entries(*(np.empty(0, kind) for kind in TYPES))


class Block(NamedTuple):
    """A part of a run, its three columns one after the other."""

    first: int  # keys
    last: int
    size: int  # entries
    checksum: int


class Run(NamedTuple):
    """A file with entries in the order of their keys, each key once."""

    name: str
    blocks: tuple[Block, ...]

    @property
    def size(self) -> int:
        return sum(block.size for block in self.blocks)


class State(NamedTuple):
    """What the manifest says."""

    # Hashes need it. Who sends files does not know it, and cannot find two names with one hash.
    secret: bytes
    up_to: str  # the newest load that is covered, and with it all before it; empty if none is
    snapshots: frozenset[str]  # reference files of which a version became a snapshot
    runs: tuple[Run, ...] = ()


class Versions(NamedTuple):
    """Versions of files that loads took, as columns."""

    names: list[str]
    sizes: Array  # int64, bytes
    times: Array  # int64, microseconds since 1970
    seconds: Array  # when the loads began
    snapshots: frozenset[str] = frozenset()  # reference files that became a snapshot, of the same loads


class Load(NamedTuple):
    """A load that is recorded."""

    load_id: str
    failed: bool  # its files are not known
    erased: bool  # it changed names of files


def empty() -> State:
    """A state that covers no load."""
    return State(secrets.token_bytes(32), "", frozenset())


def up_to_date(
    store: FileSystem, folder: str, loads: Collection[Load], versions_of: Callable[[list[str]], Iterable[Versions]]
) -> State:
    """The state with all loads that are recorded. `versions_of` gives what some loads took.

    What was recorded since the state was written is added. That is right because no load is recorded after a greater
    one was, and what a load recorded changes by an erasure alone. The state is made anew after an erasure, if it is
    damaged, and if it covers a load that is not recorded: then a backup of the tables was put back.
    """
    recorded = {load.load_id: load for load in loads}
    if not recorded:
        return empty()

    def with_loads(state: State, more: Iterable[Load]) -> State:
        took = sorted(load.load_id for load in more if not load.failed)
        return add(store, folder, state, versions_of(took) if took else (), max(recorded))

    state = read(store, folder)
    if state and state.up_to in recorded:
        newer = [load for load in recorded.values() if load.load_id > state.up_to]
        if not newer:
            return state
        if not any(load.erased for load in newer):
            with suppress(Damaged):
                return with_loads(state, newer)
    forget(store, folder)
    return with_loads(empty(), recorded.values())


def compare(
    store: FileSystem,
    folder: str,
    loads: Collection[Load],
    versions_of: Callable[[list[str]], Iterable[Versions]],
    names: list[str],
    sizes: Array,
    times: Array,
) -> tuple[Array, Array]:
    """Of each delivered file, when the load began that took its newest version (seconds since 1970, 0 if it is not
    known), and whether the file has the same size and time as that. Loads and `versions_of` are as of `up_to_date`."""

    def compared() -> tuple[Array, Array]:
        state = up_to_date(store, folder, loads, versions_of)
        keys, versions = hashes(state.secret, names, sizes, times)
        found = find(store, folder, state, keys)
        return found.second, (found.second > 0) & (found.version == versions)

    with suppress(Damaged):
        return compared()
    forget(store, folder)
    try:
        return compared()
    except Damaged as error:
        raise LakeError(f"another run changes the state of known files in {folder}: run it again ({error})") from error


# --- hashes ----------------------------------------------------------------------------------------------------------


def hashes(secret: bytes, names: Iterable[str], sizes: Array, times: Array) -> tuple[Array, Array]:
    """Keys of names, and of versions: each 64 bits of BLAKE2b with a secret.

    Versions of two names have both alike with a chance of 1 in 2^128, two versions of one name with 1 in 2^64, whatever
    a sender chooses: without the secret nobody can work out a hash. Where two names have one key alone, their versions
    differ, and who asks for one looks it up by its name.
    """
    digests = bytearray()
    blank = hashlib.blake2b(key=secret, digest_size=8)
    of_versions = np.column_stack([sizes.astype("<i8"), times.astype("<i8")]).tobytes()
    for place, name in enumerate(names):
        one = blank.copy()
        one.update(name.encode("utf-8", "surrogatepass"))
        digests += one.digest()
        one.update(of_versions[16 * place : 16 * place + 16])
        digests += one.digest()
    both = np.frombuffer(bytes(digests), "<u8").reshape(-1, 2)
    return both[:, 0].copy(), both[:, 1].copy()


def entries(secret: bytes, versions: Versions) -> Entries:
    """The entries of versions, sorted."""
    keys, of_versions = hashes(secret, versions.names, versions.sizes, versions.times)
    return newest(Entries(keys, of_versions, versions.seconds.astype("<u4")))


def newest(*parts: Entries) -> Entries:
    """The newest entry of each key, in the order of keys. Where two versions are of one second, it is neither's."""
    both = Entries(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    key, version, second = both.at(np.lexsort((both.version, both.second, both.key)))
    if not len(key):
        return both
    is_first = np.append(True, (key[1:] != key[:-1]) | (second[1:] != second[:-1]))  # of a second
    first = np.maximum.accumulate(np.where(is_first, np.arange(len(key)), 0))
    is_last = np.append(key[1:] != key[:-1], True)  # of a key
    known = np.where(version == version[first], version, NEITHER)
    return Entries(key, known, second).at(is_last)


# --- reading ---------------------------------------------------------------------------------------------------------


def read(store: FileSystem, folder: str) -> State | None:
    """The state that a folder has, None if there is none, or it is damaged or of another form."""
    try:
        with store.open_input_stream(f"{folder}/{MANIFEST}", compression=None) as stream:
            content = stream.read()
        checksum, _, text = content.partition(b"\n")
        if hashlib.sha256(text).hexdigest().encode() != checksum:
            return None
        said = json.loads(text)
        if said["form"] != FORM:
            return None
        runs = tuple(Run(name, tuple(Block(*block) for block in blocks)) for name, blocks in said["runs"])
        return State(bytes.fromhex(said["secret"]), said["up_to"], frozenset(said["snapshots"]), runs)
    except (FileNotFoundError, IsADirectoryError, ValueError, KeyError, TypeError):
        return None


def find(store: FileSystem, folder: str, state: State, keys: Array) -> Entries:
    """The newest entry of each key, in the order given; of one that is not known the second is 0.

    Raises Damaged. A block in which no key can be is not read; others are, some at a time, and only what was looked for
    is kept of them.
    """
    order = np.argsort(keys)
    wanted = keys[order]
    found = Entries(wanted, np.zeros(len(keys), "<u8"), np.zeros(len(keys), "<u4"))
    blocks = [(run, place, *_span(wanted, block)) for run in state.runs for place, block in enumerate(run.blocks)]
    blocks = [each for each in blocks if each[2] < each[3]]
    files = {name: _open(store, folder, name) for name in {run.name for run, *_ in blocks}}

    def look(each: tuple[Run, int, int, int]) -> tuple[Array, Entries]:
        run, place, begin, end = each
        known = _read_block(files[run.name], run, place)
        places = np.minimum(np.searchsorted(known.key, wanted[begin:end]), len(known.key) - 1)
        is_there = known.key[places] == wanted[begin:end]
        return begin + np.flatnonzero(is_there), known.at(places[is_there])

    with ThreadPoolExecutor(THREADS) as pool:
        for places, known in pool.map(look, blocks):
            is_other = (known.second == found.second[places]) & (known.version != found.version[places])
            is_newer = known.second > found.second[places]
            found.version[places[is_newer]] = known.version[is_newer]
            found.second[places[is_newer]] = known.second[is_newer]
            found.version[places[is_other]] = NEITHER
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return found.at(back)


def _span(wanted: Array, block: Block) -> tuple[int, int]:
    """Which of some sorted keys may be in a block."""
    begin = np.searchsorted(wanted, np.uint64(block.first), side="left")
    return int(begin), int(np.searchsorted(wanted, np.uint64(block.last), side="right"))


def _open(store: FileSystem, folder: str, name: str) -> Any:
    try:
        return store.open_input_file(f"{folder}/{name}")
    except FileNotFoundError as error:
        raise Damaged(f"{name} is not there") from error


def _read_block(file: Any, run: Run, place: int) -> Entries:
    """Some threads may read one file: each says where."""
    block, width = run.blocks[place], sum(kind.itemsize for kind in TYPES)
    before = sum(each.size for each in run.blocks[:place])
    if file.size() < (before + block.size) * width:
        raise Damaged(f"{run.name} has an end that is not its own")
    try:
        content = file.read_at(block.size * width, before * width)
    except FileNotFoundError as error:  # a store opens what it may not have any more
        raise Damaged(f"{run.name} is not there") from error
    if zlib.crc32(content) != block.checksum:
        raise Damaged(f"{run.name} has a block that is not what was written")
    columns, begin = [], 0
    for kind in TYPES:
        columns.append(np.frombuffer(content, kind, block.size, begin))
        begin += block.size * kind.itemsize
    return Entries(*columns)


# --- writing ---------------------------------------------------------------------------------------------------------


def add(store: FileSystem, folder: str, state: State, versions: Iterable[Versions], up_to: str) -> State:
    """A state with the versions of more loads, of which `up_to` is the newest. Raises Damaged.

    It counts from when its manifest is written, which comes last. Files that it does not name go after some time: those
    that were merged, and those of a run that was killed.
    """
    store.create_dir(folder, recursive=True)
    held: list[Entries] = []
    runs, snapshots = list(state.runs), set(state.snapshots)
    for each in versions:
        snapshots |= each.snapshots
        held.append(entries(state.secret, each))
        if sum(len(part.key) for part in held) >= SORTED_AT_ONCE:
            runs.append(_write_run(store, folder, [newest(*held)]))
            held = []
    if any(len(part.key) for part in held):
        runs.append(_write_run(store, folder, [newest(*held)]))
    held = []
    while alike := _alike(runs):
        merged = _write_run(store, folder, _merged(store, folder, alike))
        runs = [run for run in runs if run not in alike] + [merged]
    state = state._replace(runs=tuple(runs), snapshots=frozenset(snapshots), up_to=up_to)
    _write_manifest(store, folder, state)
    old = time.time() - KEPT_SECONDS
    for info in store.get_file_info(FileSelector(folder, allow_not_found=True)):
        # Another machine may be about to name a new one.
        if info.base_name not in {MANIFEST, *(run.name for run in runs)} and info.mtime.timestamp() < old:
            with suppress(FileNotFoundError):  # another machine may do the same
                store.delete_file(info.path)
    return state


def forget(store: FileSystem, folder: str) -> None:
    """Delete the state and all its files. The next load makes it anew."""
    if store.get_file_info(FileSelector(folder, allow_not_found=True)):
        store.delete_dir(folder)


def _alike(runs: list[Run]) -> list[Run]:
    """Runs of about the same size that are so many that they are to be merged."""
    levels: dict[int, list[Run]] = {}
    for run in runs:
        level = 0
        while run.size > SMALL_RUN * MANY**level:
            level += 1
        levels.setdefault(level, []).append(run)
    return next((found for _, found in sorted(levels.items()) if len(found) >= MANY), [])


def _merged(store: FileSystem, folder: str, runs: list[Run]) -> Iterator[Entries]:
    """The newest entries of runs in the order of keys. A block of each run is held at a time."""
    waiting = [
        iter(map(partial(_read_block, _open(store, folder, run.name), run), range(len(run.blocks)))) for run in runs
    ]
    held = [next(blocks) for blocks in waiting]
    while held:
        last = min(part.key[-1] for part in held)
        ends = [int(np.searchsorted(part.key, last, side="right")) for part in held]
        yield newest(*(part.at(slice(0, end)) for part, end in zip(held, ends, strict=True)))
        rest = [
            (part.at(slice(end, None)) if end < len(part.key) else next(blocks, NONE), blocks)
            for part, end, blocks in zip(held, ends, waiting, strict=True)
        ]
        held = [part for part, _ in rest if len(part.key)]
        waiting = [blocks for part, blocks in rest if len(part.key)]


def _write_run(store: FileSystem, folder: str, parts: Iterable[Entries]) -> Run:
    """Write sorted entries, of which a key is in one part alone."""
    name, blocks = f"run-{secrets.token_hex(8)}", []
    with store.open_output_stream(f"{folder}/{name}", compression=None) as stream:
        for part in _in_blocks(parts):
            content = b"".join(column.astype(kind).tobytes() for column, kind in zip(part, TYPES, strict=True))
            stream.write(content)
            blocks.append(Block(int(part.key[0]), int(part.key[-1]), len(part.key), zlib.crc32(content)))
    return Run(name, tuple(blocks))


def _in_blocks(parts: Iterable[Entries]) -> Iterator[Entries]:
    held: list[Entries] = []
    for part in parts:
        held.append(part)
        if sum(len(each.key) for each in held) >= BLOCK:
            whole = _joined(held)
            full = len(whole.key) // BLOCK * BLOCK
            yield from (whole.at(slice(begin, begin + BLOCK)) for begin in range(0, full, BLOCK))
            held = [whole.at(slice(full, None))]
    if len((rest := _joined(held)).key):
        yield rest


def _joined(parts: list[Entries]) -> Entries:
    return Entries(*(np.concatenate(column) for column in zip(*parts, strict=True))) if parts else NONE


def _write_manifest(store: FileSystem, folder: str, state: State) -> None:
    said = {
        "form": FORM,
        "secret": state.secret.hex(),
        "up_to": state.up_to,
        "snapshots": sorted(state.snapshots),
        "runs": [[run.name, run.blocks] for run in state.runs],
    }
    text = json.dumps(said).encode()
    # A store shows an object when it is whole; a local file gets its name then.
    is_local = store.type_name == "local"
    path = f"{folder}/draft-{secrets.token_hex(8)}" if is_local else f"{folder}/{MANIFEST}"
    with store.open_output_stream(path, compression=None) as stream:
        if is_local:
            os.chmod(path, 0o600)  # before the secret is in it
        stream.write(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
    if is_local:
        store.move(path, f"{folder}/{MANIFEST}")
