"""What the documentation names is there: pages, headings, files, commands, options, settings and tables."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from jobs import versions
from jobs.cli import app
from jobs.settings import PROJECT, SQL, unknown_names

PAGES = [
    *(PROJECT / name for name in ("README.md", "RELEASES.md", "meterlake/README.md", "tests/bench/README.md")),
    *sorted((PROJECT / "docs").rglob("*.md")),
]
WITH_MISTAKES = PROJECT / "docs" / "mistakes.md"  # it names what is not there; tests/unit/test_mistakes.py knows it
OF_OTHER_DAYS = PROJECT / "RELEASES.md"  # it tells of what is gone, too
FENCED = re.compile(r"^ *```\w*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def _pages(*without: Path) -> pytest.MarkDecorator:
    pages = [page for page in PAGES if page not in without]
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(PROJECT)))


every_page, every_true_page = _pages(), _pages(WITH_MISTAKES)


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCED.sub("", page.read_text())


def code(page: Path) -> list[str]:
    """What is set as code: spans, and lines of fenced blocks without their comments."""
    blocks = FENCED.findall(page.read_text())
    lines = [line.split(" #")[0] for block in blocks for line in block.splitlines()]
    return [*re.findall(r"`([^`\n]+)`", prose(page)), *lines]


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)


def said_to_lake(text: str) -> Iterator[list[str]]:
    """The words after each `lake` of a piece of code, up to the end of that command."""
    for found in re.finditer(r"(?:^|[\s/(])lake ([a-z][^|&;#]*)", text):
        yield found[1].split()


@every_page
def test_links__should_lead_to_files_and_headings_that_exist(page: Path) -> None:
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            wrong.append(target)

    assert wrong == []


@every_true_page
def test_make__should_have_the_targets_that_are_named(page: Path) -> None:
    targets = set(re.findall(r"^([\w./-]+):(?!=)", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = {name for text in code(page) for name in re.findall(r"(?:^|[\s(])make(?: -s)? ([a-z./][\w./-]*)", text)}

    assert {name.rstrip(".") for name in named} - targets == set()


@every_true_page
def test_lake__should_have_the_commands_and_options_that_are_named(page: Path) -> None:
    wrong = []
    for words in (words for text in code(page) for words in said_to_lake(text)):
        command: Any = typer.main.get_command(app)
        rest = words
        while commands := getattr(command, "commands", None):
            name, *rest = rest or [""]
            if name not in commands:
                break
            command = commands[name]
        options = {"--help", *(name for each in command.params for name in each.opts)}
        unknown = [word for word in rest if word.startswith("--") and word.rstrip(",)") not in options]
        if unknown or command.name is None or (commands and words != [command.name]):
            wrong.append(f"lake {' '.join(words)}")

    assert wrong == []


@every_true_page
def test_settings__should_be_known(page: Path) -> None:
    named = {name for name in re.findall(r"\bLAKE_[A-Z0-9_]+\b", page.read_text()) if not name.endswith("_")}

    assert unknown_names(sorted(named)) == []


@every_page
def test_files__should_be_there(page: Path) -> None:
    folders = "jobs|tests|sql|docs|docker|expectations|examples|meterlake"
    named = {text.rstrip("/") for text in code(page) if re.fullmatch(rf"(?:{folders})/[\w./-]+", text)}
    there = {name for name in named if (PROJECT / name).exists() or list(PROJECT.glob(f"{name}__*"))}

    assert named - there == set()


@_pages(OF_OTHER_DAYS)
def test_tables__should_be_made_by_the_versioned_sql(page: Path) -> None:
    text = page.read_text()
    made = {
        subject.name
        for version in versions.read_versions(SQL)
        for statement in versions.statements(version.sql)
        if (subject := versions.subject_of(statement)) and subject.is_made
    }
    made |= {name.lower() for name in re.findall(r"CREATE OR REPLACE VIEW (\S+)", text)}  # examples
    named = set(re.findall(r"(?<![\w/])(?:gold|silver|mart|ops|quarantine)\.[a-z]\w*(?!\w|\.\w|…)", text))

    assert {name for name in named - made if not name.endswith("_")} == set()


def test_operators_guide__should_say_of_each_check_what_to_do() -> None:
    text = (PROJECT / "docs" / "operations.md").read_text()
    checks = set(re.findall(r'Finding\("(\w+)"', (PROJECT / "jobs" / "check.py").read_text()))

    for heading in ("When something is wrong", "Watch it"):
        [section] = re.findall(rf"^## {heading}\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
        assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == checks


@pytest.mark.parametrize("page", ["README.md", "docs/analysts.md"])
def test_each_view__should_be_found_from_readme_and_the_analysts_guide(page: str) -> None:
    views = {path.stem for path in (PROJECT / "docs" / "queries").iterdir() if not path.stem.endswith("_as_of")}
    named = set(re.findall(r"gold\.\w+", (PROJECT / page).read_text()))

    assert views - named == set()


def test_each_command__should_be_in_readme_or_a_guide() -> None:
    text = "".join(
        (PROJECT / name).read_text() for name in ("README.md", "docs/operations.md", "docs/configuration.md")
    )
    commands: Any = typer.main.get_command(app)
    shown = {name for name, command in commands.commands.items() if not command.hidden}

    assert {name for name in shown if not re.search(rf"(?:docker/)?lake {name}\b|make {name}\b", text)} == set()
    first = (PROJECT / "README.md").read_text()
    meant = {"check", "collect", "expire", "history", "move", "quarantine", "rebuild", "reload", "retract", "rollback"}
    assert {name for name in meant | {"periods", "status"} if f"`lake {name}" not in first} == set()


def test_example_queries__should_call_only_functions_that_the_endpoint_allows() -> None:
    [listed] = (PROJECT / "docker" / "endpoint-guard").rglob("functions.txt")
    words = {"as", "filter", "over", "using"}  # which may stand before a bracket
    called = {
        name.lower()
        for path in (PROJECT / "docs" / "queries").iterdir()
        for statement in versions.statements(path.read_text())
        for name in re.findall(r"(?<![\w.])(\w+) ?\(", versions.statement_without_comments(statement))
    }

    assert called - words - set(listed.read_text().split()) == set()
    assert {"sum", "max_by", "explode"} < called
