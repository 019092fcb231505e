"""What a person may have meant by a name that is not known."""

import difflib
from collections.abc import Collection

FEW = 20_000  # names that are compared letter by letter


def meant(name: str, known: Collection[str]) -> str | None:
    """The known name that is most like the given one, None if none is: a path of which the beginning was left out or is
    another, or a slip. Folders and endings are much the same in all paths, so they tell little."""
    end = f"/{name.rsplit('/', 1)[-1]}"
    same_end = sorted(each for each in known if f"/{each}".endswith(end))
    if same_end or len(known) > FEW:
        return same_end[0] if same_end else None
    stems = {_stem(each): each for each in sorted(known)}
    close = difflib.get_close_matches(_stem(name), stems, n=1, cutoff=0.75)
    return stems[close[0]] if close else None


def _stem(path: str) -> str:
    return path.rsplit("/", 1)[-1].split(".", 1)[0]


def with_hints(names: Collection[str], known: Collection[str]) -> str:
    """Unknown names, separated by commas, each with what may have been meant."""
    texts = []
    for name in sorted(names):
        other = meant(name, known)
        texts.append(f"{name} (did you mean {other}?)" if other else name)
    return ", ".join(texts)
