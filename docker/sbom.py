"""Bills of materials of the stack's images (CycloneDX), and what is known of the parts. Called by `make sbom`.

Syft reads what is in an image: packages of Debian and Python, jars, modules in Go programs. What is known of them is
asked of Debian, which tells its updates, and of Grype, where it is installed. No database comes with this repository.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

PROJECT = Path(__file__).parents[1]
COMPOSE = ["docker", "compose", "--profile", "jobs", "--profile", "dashboard"]
SYFT = Path(sys.executable).with_name("syft")
# As root, because images have users of their own. The lists that it fetches go with the container.
UPDATES = "apt-get update -qq >&2 && apt list --upgradable 2>/dev/null"


def images() -> dict[str, str]:
    """The stack's images that are built, by short name."""
    named = _output([*COMPOSE, "config", "--images"]).split()
    found = {}
    for image in sorted(set(named)):
        name = image.rsplit("/", 1)[-1].partition(":")[0]
        if subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode:
            print(f"{name}: is not built, so it has no bill of materials: `make up`, `make dashboard`")
        else:
            found[name] = image
    return found


def write_bill(image: str, path: Path) -> None:
    """Have Syft write the bill of an image. Raises CalledProcessError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [SYFT, "scan", "--quiet", f"docker:{image}", "--output", f"cyclonedx-json={path}"],
        check=True,
        # Checksums of files are in no bill, and take a quarter of the time.
        env=os.environ | {"SYFT_CHECK_FOR_APP_UPDATE": "false", "SYFT_FILE_METADATA_SELECTION": "none"},
    )


def faults(bill: str) -> str | None:
    """Where a bill breaks CycloneDX's schema, None if it keeps to it."""
    version = SchemaVersion.from_version(json.loads(bill)["specVersion"])
    found = JsonStrictValidator(version).validate_str(bill)
    return f"{found.data.json_path}: {found.data.message}" if found else None


def parts(bill: str) -> Counter[str]:
    """How many parts of each kind: deb, pypi, maven, golang."""
    named = (each.get("purl", "") for each in json.loads(bill).get("components", ()))
    return Counter(purl.removeprefix("pkg:").partition("/")[0] for purl in named if purl)


def updates(image: str) -> list[str] | None:
    """Debian's packages of which a newer version is to be had, each with both. None: Debian does not answer."""
    command = ["docker", "run", "--rm", "--user", "0:0", "--entrypoint", "sh", image, "-ec", UPDATES]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        return None
    newer = re.findall(r"^(\S+)/\S+ (\S+) \S+ \[upgradable from: (\S+)\]$", done.stdout, re.MULTILINE)
    return [f"{name} {old} → {new}" for name, new, old in newer]


def vulnerabilities(path: Path) -> Path | None:
    """Grype's report of a bill. None: it has no database, and cannot fetch one."""
    report = path.with_suffix("").with_suffix(".vulnerabilities.txt")
    done = subprocess.run(["grype", f"sbom:{path}", "--quiet", "--file", report], check=False)
    return report if done.returncode == 0 else None


def main(folder: Path, *, ask: bool = True) -> int:
    """Exit status 1 if a bill is not as its schema wants it. `ask`: also what is known of the parts."""
    wrong = 0
    for name, image in images().items():
        path = folder / f"{name}.cdx.json"
        write_bill(image, path)
        bill = path.read_text()
        counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(parts(bill).items()))
        print(f"{name}: {path}: {counts}")
        if fault := faults(bill):
            wrong = 1
            print(f"{name}: error: breaks the schema: {fault}")
        if not ask:
            continue
        newer = updates(image)
        if newer is None:
            print(f"{name}: Debian does not answer, so its updates are not known")
        else:
            print(f"{name}: updates of Debian: {', '.join(newer) or 'none'}")
        if shutil.which("grype"):
            print(f"{name}: vulnerabilities: {vulnerabilities(path) or 'Grype has no database'}")
    if ask and not shutil.which("grype"):
        print(
            f"Known vulnerabilities were not looked up: Grype is not installed. Any scanner reads {folder}/*.cdx.json."
        )
    return wrong


def _output(command: list[str]) -> str:
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    folders = [each for each in sys.argv[1:] if each != "--bills-alone"]
    sys.exit(main(Path(folders[0] if folders else "var/sbom"), ask="--bills-alone" not in sys.argv))
