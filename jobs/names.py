"""What a person may have meant by a name that is not known."""

import difflib
from collections.abc import Collection

FEW = 20_000  # names that are compared letter by letter


def meant(name: str, known: Collection[str]) -> str | None:
    """The known name that is most like the given one, None if none is: a path of which the beginning was left out, or
    a slip."""
    end = f"/{name.removeprefix('./').rsplit('/', 1)[-1]}"
    same_end = sorted(each for each in known if f"/{each}".endswith(end))
    if same_end:
        return same_end[0]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8) if len(known) <= FEW else []
    return close[0] if close else None


def with_hints(names: Collection[str], known: Collection[str]) -> str:
    """Unknown names, separated by commas, each with what may have been meant."""
    texts = []
    for name in sorted(names):
        other = meant(name, known)
        texts.append(f"{name} (did you mean {other}?)" if other else name)
    return ", ".join(texts)
