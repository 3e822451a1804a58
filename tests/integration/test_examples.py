"""What stands in examples/ is what its program reads, as far as that can be asked here, and is told of in the docs."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.senders.base import ADDRESS, EXAMPLES, filled
from tests.senders.rsyslog import installed
from tests.servers import lacking

DOCS = Path(__file__).parents[2] / "docs"
FOLDERS = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
FILES = sorted(path for path in EXAMPLES.rglob("*") if path.is_file() and "__pycache__" not in path.parts)

#: Those of them that the page has in a table.
MONITORING = {
    "azure-monitor", "cloudwatch", "google-cloud-monitoring", "icinga2", "librenms", "snmptt", "sns", "solarwinds",
    "zabbix",
}  # fmt: skip

#: A piece of a file on the page: what it is of, and its lines.
PIECES = re.findall(
    r"^\[examples/[^]]*\]\(\.\./examples/([^)]+)\)[^\n]*\n\n```\w*\n(.*?)```",
    (DOCS / "senders.md").read_text(),
    re.M | re.S,
)

READERS = {".yaml": yaml.safe_load, ".yml": yaml.safe_load, ".json": json.loads, ".py": ast.parse}

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_is_told_of_in_the_readme_and_on_the_page(folder: str) -> None:
    assert f"({folder}/)" in (EXAMPLES / "README.md").read_text()
    assert f"examples/{folder}" in (DOCS / "senders.md").read_text()


@pytest.mark.parametrize(("name", "piece"), PIECES, ids=[name for name, _ in PIECES])
def test_what_the_page_shows_of_a_file_stands_in_it(name: str, piece: str) -> None:
    lines = (EXAMPLES / name).read_text().splitlines()
    assert not set(piece.splitlines()) - set(lines)


def test_the_page_shows_something_of_each_sender_that_has_a_section() -> None:
    shown = {name.partition("/")[0] for name, _ in PIECES}
    assert shown >= set(FOLDERS) - MONITORING


@each_file
def test_a_file_can_be_read_as_what_it_is(path: Path) -> None:
    text = path.read_text()
    if text.startswith("#!/usr/bin/env python3"):
        ast.parse(text)
    elif text.startswith("#!/bin/sh"):
        subprocess.run(["sh", "-n", path], check=True)
    elif path.name == "telegraf.conf":
        tomllib.loads(text)
    elif path.suffix in READERS:
        READERS[path.suffix](text)


@each_file
def test_a_script_may_be_run(path: Path) -> None:
    assert (path.stat().st_mode & 0o111 != 0) == path.read_bytes().startswith(b"#!")


def checked(program: str | None, arguments: Sequence[str | Path], needs: str) -> None:
    """Its own check finds nothing wrong."""
    if program is None:
        lacking(f"{needs} is not here")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr


def test_amtool_finds_nothing_wrong() -> None:
    arguments = ["check-config", EXAMPLES / "alertmanager/alertmanager.yml"]
    checked(shutil.which("amtool"), arguments, "Debian's package prometheus-alertmanager")


def test_syslog_ng_finds_nothing_wrong(tmp_path: Path) -> None:
    arguments = ["-s", "--no-caps", "-f", EXAMPLES / "syslog-ng/syslog-ng.conf", "-R", tmp_path / "persist"]
    checked(shutil.which("syslog-ng"), arguments, "Debian's package syslog-ng-core")


def test_rsyslog_finds_nothing_wrong(tmp_path: Path) -> None:
    found = installed()
    if found is None:
        lacking("rsyslog is not here, nor unpacked")
    told = {ADDRESS: ADDRESS, "/var/spool/rsyslog": str(tmp_path)}
    file = tmp_path / "rsyslog.conf"
    file.write_text(filled("rsyslog/rsyslog-omprog.conf", told))
    done = subprocess.run(
        [*found.argv, "-N1", "-f", file], env=found.environ, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, "error" in done.stderr) == (0, False), done.stderr
