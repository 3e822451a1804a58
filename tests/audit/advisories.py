"""Advisories: is a vulnerability known of a version that is installed? Asks the package index, else OSV."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.audit.finding import LOCKS, ROOT, Findings

#: pip-audit's own choice, which is the index, and the other.
_SERVICES = ((), ("-s", "osv"))
_PATIENCE = 300

#: Advisories that do not concern MUTT, with the reason.
ACCEPTED: dict[str, str] = {}


def check() -> Findings:
    """Every version of every lock, for this machine's Python."""
    wrong: list[str] = []
    looked_up: set[str] = set()
    for lock in LOCKS:
        found = _asked(lock)
        if found is None:
            return Findings(
                "known vulnerabilities",
                wrong,
                "neither the package index's nor OSV's advisories can be reached from here",
            )
        for package in found:
            looked_up.add(package["name"])
            for one in package["vulns"]:
                if not ACCEPTED.keys() & {one["id"], *one["aliases"]}:
                    mended = ", ".join(one["fix_versions"]) or "no version"
                    wrong.append(
                        f"{lock}: {package['name']} {package['version']}: {one['id']}, mended in {mended}"
                    )
    return Findings(f"known vulnerabilities of {len(looked_up)} packages", wrong)


def _asked(lock: str) -> list[dict[str, Any]] | None:
    for service in _SERVICES:
        argv = [Path(sys.executable).with_name("pip-audit"), "--disable-pip", "--require-hashes", "-r", lock,
                *service, "-f", "json", "--progress-spinner", "off"]  # fmt: skip
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=_PATIENCE, check=False)
        try:
            packages = json.loads(done.stdout)["dependencies"]
        except (ValueError, KeyError):
            continue
        # It calls a package that it can't ask about skipped, and everything well.
        if not any("skip_reason" in package for package in packages):
            return list(packages)
    return None
