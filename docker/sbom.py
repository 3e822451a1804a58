"""What an environment of MUTT is made of, as CycloneDX: its packages, and the files of others in mutt/.

::

    python docker/sbom.py <the environment's python> <file to write>

Runs on cyclonedx-bom (tests/audit/requirements.txt), in an environment of its own. The same environment gives the
same file, and no path of the machine gets into it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).parents[1]


def sbom(python: str) -> dict[str, Any]:
    """The document. Raises ``subprocess.CalledProcessError`` where the environment can't be read."""
    program = Path(sys.executable).with_name("cyclonedx-py")
    argv = [
        program,
        "environment",
        "--output-reproducible",
        "--short-PURLs",
        "--of",
        "JSON",
        "--sv",
        "1.6",
        python,
    ]
    found: dict[str, Any] = json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)
    [mutt] = [one for one in found["components"] if one["name"] == "mutt"]
    found["components"] = [one for one in found["components"] if one is not mutt] + list(vendored())
    mutt.pop("externalReferences", None)  # where it lies on this machine
    found["metadata"]["component"] = mutt | {"type": "application"}
    return found


def vendored() -> Iterator[dict[str, Any]]:
    """What lies in mutt/ as others released it, from the tables of VENDORED.md."""
    row = re.compile(
        r"^\| ([\w./-]+\.\w+) \| ([^|]+?) \| ([\w.]+) \| ([\w.-]+)[^|]* \| ([0-9a-f]{64}) \|$", re.M
    )
    project = ""
    for table in sorted((ROOT / "mutt").rglob("VENDORED.md")):
        for file, of, version, licence, digest in row.findall(table.read_text()):
            project = project if of.startswith("the same") else of.partition(" (")[0]
            path = (table.parent / file).relative_to(ROOT).as_posix()
            yield {
                "type": "file", "bom-ref": path, "name": path, "version": version,
                "description": f"a file of {project}",
                "licenses": [{"license": {"id": licence}}], "hashes": [{"alg": "SHA-256", "content": digest}],
            }  # fmt: skip


def main() -> None:
    """Write it where it is asked for, if it is as CycloneDX's schema has it."""
    python, target = sys.argv[1:]
    text = json.dumps(sbom(python), indent=1, sort_keys=True) + "\n"
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong:
        sys.exit(f"no CycloneDX 1.6: {wrong}")
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text(text)


if __name__ == "__main__":
    main()
