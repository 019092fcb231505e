"""Bills of materials of the images that the stack was built of."""

import json
import sys
from pathlib import Path

from tests.stack.conftest import Stack

IMAGES = {
    "dashboard": {"deb", "pypi"},
    "lake": {"deb", "pypi", "maven"},
    "metadata-db": {"deb"},
    "metastore": {"deb", "maven"},
    "object-store": {"deb", "golang"},
    "reports": {"deb"},
}


def test_each_image_has_a_bill_of_materials_that_keeps_to_the_schema(small: Stack, tmp_path: Path) -> None:
    small.compose("build", "dashboard-init")
    done = small.call([sys.executable, "docker/sbom.py", str(tmp_path), "--bills-alone"], timeout=1200, check=True)

    named = {path.name.partition(".")[0]: json.loads(path.read_text()) for path in tmp_path.glob("*.cdx.json")}
    assert set(IMAGES) <= set(named), done.stdout
    for image, kinds in IMAGES.items():
        purls = [each["purl"] for each in named[image]["components"] if "purl" in each]
        assert kinds <= {purl.removeprefix("pkg:").partition("/")[0] for purl in purls}, image
    jars = {each["name"] for each in named["lake"]["components"] if each.get("purl", "").startswith("pkg:maven")}
    assert {"hadoop-aws", "spark-core_2.13"} & jars, sorted(jars)
    assert any("github.com/minio/minio" in each.get("purl", "") for each in named["object-store"]["components"])
    assert "error:" not in done.stdout
