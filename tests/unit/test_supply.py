"""What MUTT is built from: versions with their sums, and told in an SBOM."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.audit import locks
from tests.audit.finding import LOCKS, ROOT

AUDIT = ROOT / ".venv/audit/bin/python"


def committed() -> list[Path]:
    """Every file of the repository."""
    told = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in told.decode().split("\0") if name]


def test_every_line_of_every_lock_has_sums() -> None:
    """And every file that looks like a lock is looked at."""
    assert locks.check().wrong == []
    assert {str(path.relative_to(ROOT)) for path in committed() if path.name == "requirements.txt"} == set(
        LOCKS
    )


@pytest.mark.parametrize(
    "line",
    [
        "flask",
        "flask==3.1.0",
        "flask>=3 \\\n    --hash=sha256:" + "0" * 64,
        "--editable x",
        "flask==1 \\\n    --hash=md5:0",
    ],
)
def test_a_line_without_is_found(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No version, no sum, another kind of sum, or an option."""
    (tmp_path / "requirements.txt").write_text(line + "\n")
    monkeypatch.setattr(locks, "ROOT", tmp_path)
    monkeypatch.setattr(locks, "LOCKS", ("requirements.txt",))
    assert len(locks.check().wrong) == 1


@pytest.mark.parametrize("name", ["Makefile", "docker/Dockerfile"])
def test_whatever_is_installed_is_held_to_its_sums(name: str) -> None:
    """Each install takes a lock with --require-hashes; but MUTT itself, without its dependencies."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    installs = [line for line in re.split(r"\n|&&", text) if re.search(r"\bpip install\b", line)]
    assert installs
    for line in installs:
        assert "--require-hashes" in line or "--no-deps --no-build-isolation -e ." in line, line


def test_the_image_holds_its_sbom() -> None:
    """Made from what was installed, before the last stage, and copied into it."""
    stages = re.split(r"^FROM ", (ROOT / "docker/Dockerfile").read_text(), flags=re.MULTILINE)
    assert "docker/sbom.py /opt/venv/bin/python /app/sbom.json" in stages[-2]
    assert "COPY --from=sbom /app/sbom.json" in stages[-1]


@pytest.mark.skipif(not AUDIT.exists(), reason="make audit has not been run: its tools are not here")
def test_an_sbom_is_as_its_schema_says_and_the_same_again(tmp_path: Path) -> None:
    """Each package of the lock that is installed stands in it, and each vendored file; no path of the machine."""
    texts = []
    for name in ("once", "again"):
        argv = [str(AUDIT), "docker/sbom.py", str(ROOT / ".venv/bin/python"), str(tmp_path / name)]
        subprocess.run(argv, cwd=ROOT, check=True)
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1]
    assert str(ROOT) not in texts[0]
    told = json.loads(texts[0])
    names = {one["name"].lower().replace("_", "-") for one in told["components"]}
    assert {"flask", "celery", "redis", "mutt/web/static/htmx.min.js"} <= names
    assert told["metadata"]["component"]["name"] == "mutt"
