"""What the pages load is ours, or stands in VENDORED.md as it was released."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import mutt.web

STATIC = Path(mutt.web.__file__).parent / "static"
TEMPLATES = STATIC.parent / "templates"


def _vendored() -> dict[str, str]:
    rows = re.findall(
        r"^\| ([\w./-]+\.\w+) \|.*\| ([0-9a-f]{64}) \|$", (STATIC / "VENDORED.md").read_text(), re.MULTILINE
    )
    return dict(rows)


def test_what_others_wrote_is_as_they_released_it() -> None:
    """Each vendored file has the sum that VENDORED.md gives, and none that is minified or in a folder is missing."""
    sums = _vendored()
    others = [*STATIC.glob("*.min.*"), *STATIC.glob("*/**/*.js"), *STATIC.glob("*/**/*.css")]
    assert {path.relative_to(STATIC).as_posix() for path in others} <= sums.keys()
    for name, expected in sums.items():
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == expected, name


@pytest.mark.parametrize("path", sorted(TEMPLATES.rglob("*.html")), ids=lambda path: path.name)
def test_no_template_needs_what_the_policy_forbids(path: Path) -> None:
    """No inline script, style or handler, nothing that htmx would have to evaluate, nothing marked as safe."""
    page = path.read_text()
    assert not re.search(r"<script(?![^>]+src=)|<style|\sstyle=|\son\w+=|javascript:|\|\s*safe\b", page)
    assert not re.search(r"hx-on|hx-vals=.js:|hx-trigger=\"[^\"]*\[", page)
