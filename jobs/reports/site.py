"""Where pages come from and where they go: templates of `jobs/assets/docs`, files below the reports folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template

_ASSETS = Path(__file__).parents[1] / "assets" / "docs"


@cache
def template(name: str) -> Template:
    """A template in which text from data is escaped and a name that is missing is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = "{:,}".format
    return environment.get_template(name)


def write(path: Path, text: str) -> None:
    """Whole or not at all: a run may be killed here, a browser may read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
