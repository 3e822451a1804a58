"""The house keeps its own rules: what is installed, linted, documented, and who may read the environment."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mutt.settings import Settings
from tests.servers import lacking

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "mutt").rglob("*.py"))
LOCKS = ("requirements.txt", "docker/requirements.txt")

#: Whoever names an index chooses for everybody where packages come from.
INDEX = re.compile(
    r"--(extra-)?index-url|--find-links|--trusted-host|\bpypi\b|/simple\b|pythonhosted", re.IGNORECASE
)

#: What a module begins with, perhaps after comments.
DOCSTRING = re.compile(r'(#.*\n|\n)*"""\s*\S')

_SETTING = re.compile(
    r"^\| `(?P<name>\w+)` \|(?: `(?P<default>.+?)`)? \| ?(?P<secret>\w*) ?\| \S.*\|$", re.MULTILINE
)

_PIN = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[a-z,]+\])?==([^ ;\\]+)")


def _tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout: which files are tracked can't be told")
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def _tool(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    return found or lacking(f"{name} is not installed")


def _page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


def _wanted_with_extras() -> set[str]:
    """Each package that something installed asks for with an extra, on this machine."""
    asked = [Requirement(line) for dist in importlib.metadata.distributions() for line in dist.requires or ()]
    return {
        wanted.name.lower()
        for wanted in asked
        if wanted.extras and (not wanted.marker or wanted.marker.evaluate({"extra": ""}))
    }


def _pins(lock: str) -> dict[str, str]:
    lines = (ROOT / lock).read_text().splitlines()
    return {match[1].lower(): match[2] for match in map(_PIN.match, lines) if match}


def test_our_migrations_do_not_hide_the_library_alembic() -> None:
    assert not (ROOT / "alembic" / "__init__.py").exists()


def test_no_tracked_file_names_a_package_index() -> None:
    this = Path(__file__)
    texts = {path: path.read_bytes().decode(errors="replace") for path in _tracked() if path != this}
    assert [str(path) for path, text in texts.items() if INDEX.search(text)] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pinned_package_has_its_hashes(lock: str) -> None:
    blocks = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())
    assert len(blocks) > 20
    assert [
        block.split()[0] for block in blocks if not _PIN.match(block) or "--hash=sha256:" not in block
    ] == []


def test_a_package_wanted_with_an_extra_is_pinned_with_it() -> None:
    # To pip `coverage[toml]` and `coverage` are two: where only the second is pinned, the first's next release
    # stops every install.
    pinned = set(re.findall(r"^([\w.-]+)\[", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    wanted = _wanted_with_extras() & _pins("requirements.txt").keys()
    assert wanted  # else this test tells nothing
    assert wanted <= pinned


def test_the_image_runs_the_versions_that_are_tested() -> None:
    tested, shipped = map(_pins, LOCKS)
    assert shipped.items() <= tested.items()


def test_the_page_of_settings_names_each_with_its_default() -> None:
    written = {
        row["name"]: (row["default"] or "", row["secret"]) for row in _SETTING.finditer(_page("settings"))
    }
    fields = {
        told["env"] or field.name.upper(): (told["default"], "secret" if told["secret"] else "")
        for field in dataclasses.fields(Settings)
        for told in (field.metadata,)
    }
    assert written == fields


def test_every_module_says_what_it_is() -> None:
    assert [path for path in MODULES if not DOCSTRING.match(path.read_text())] == []


def test_only_the_settings_read_the_environment() -> None:
    readers = [
        path
        for path in MODULES
        if re.search(r"\bos\.(environ|getenv)\b|from os import.*environ", path.read_text())
    ]
    assert readers == [ROOT / "mutt/settings.py"]


def test_the_dockerfile_is_in_order() -> None:
    _run(_tool("hadolint"), "docker/Dockerfile")


def test_compose_is_what_its_specification_says() -> None:
    _run(_tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker/compose.yaml")


def test_make_check_runs_every_check() -> None:
    said = subprocess.run(
        ["make", "-n", "-o", ".venv/.installed", "check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for check in ("ruff format --check", "ruff check", "mypy", "lint-imports", "pytest -q tests/unit"):
        assert check in said.stdout


def _run(*argv: str) -> None:
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_test_that_the_security_page_names_is_there() -> None:
    """A defence that the page claims has a test, by the name that it gives."""
    page = (ROOT / "docs/security.md").read_text()
    named = re.findall(r"\b((?:unit|integration|acceptance|browser|contract)/test_\w+\.py)(?:::(\w+))?", page)
    assert len(named) > 100
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / "tests" / file).exists() or f"def {name}" not in (ROOT / "tests" / file).read_text()
    ]
    assert missing == []
