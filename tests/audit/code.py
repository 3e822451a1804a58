"""Code: what bandit says of mutt/, apart from what is as it should be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.audit.finding import ROOT, Findings

#: Tests that look for what stands here on purpose, everywhere.
SKIPPED = {
    "B101": "an assert tells mypy what is known; nothing depends on its being run",
    "B404": "subprocess is used without a shell: B602 to B607 look at each use",
}

#: Findings in a file that are as they should be, with the reason.
ACCEPTED = {
    ("mutt/cli/samples.py", "B311"): "sample events at random",
    ("mutt/cli/traffic.py", "B311"): "sample traffic at random",
    ("mutt/embedded/guard.py", "B603"): "starts MUTT's own Python with fixed arguments",
    ("mutt/embedded/home.py", "B105"): "how many bytes a password has, no password",
    ("mutt/embedded/pgbinaries.py", "B603"): "starts the PostgreSQL that was installed with MUTT",
    ("mutt/embedded/postgres.py", "B107"): "nothing said of who logs in, no password",
    ("mutt/embedded/postgres.py", "B603"): "starts the PostgreSQL that was installed with MUTT",
    ("mutt/embedded/process.py", "B310"): "asks an address of its own making, on 127.0.0.1",
    ("mutt/embedded/process.py", "B603"): "starts the stack's own processes",
    ("mutt/embedded/redis.py", "B603"): "starts the server that was installed with MUTT",
    ("mutt/formats/snmptrap.py", "B104"): "0.0.0.0 is what a trap without an agent's address says",
    ("mutt/letters/apart.py", "B403"): "writes for its own child",
    ("mutt/letters/apart.py", "B603"): "starts MUTT's own Python with fixed arguments",
    ("mutt/letters/child.py", "B403"): "reads what its own parent wrote",
    ("mutt/letters/child.py", "B301"): "reads what its own parent wrote",
    (
        "mutt/rules/book.py",
        "B506",
    ): "a loader made from SafeLoader, which makes no objects and knows no aliases",
    ("mutt/settings.py", "B105"): "the name of a setting",
    ("mutt/store/archives/bulk.py", "B608"): "names of our own columns; what is typed is a parameter",
    ("mutt/store/archives/keeping.py", "B608"): "names of our own columns, which are checked",
    ("mutt/store/archives/reading.py", "B608"): "names of our own columns; what is typed is a parameter",
    ("mutt/store/archives/sums.py", "B608"): "expressions over our own columns",
    ("mutt/web/admin/keyforms.py", "B106"): "a signature whose secret is left out, no password",
    ("mutt/web/admin/users.py", "B107"): "no password was made, so none is shown",
    ("mutt/web/sns.py", "B303"): "Amazon SNS signs with SHA-1 where a topic is not set to version 2",
}


def check() -> Findings:
    """Every finding, and every exception that nothing needs any more."""
    argv = [
        Path(sys.executable).with_name("bandit"),
        "-q",
        "-r",
        "mutt",
        "-f",
        "json",
        "-s",
        ",".join(SKIPPED),
    ]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    wrong, needed = [], set()
    for one in told["results"]:
        key = one["filename"], one["test_id"]
        needed.add(key)
        if key not in ACCEPTED:
            wrong.append(f"{one['filename']}:{one['line_number']}: {one['test_id']} {one['issue_text']}")
    wrong += [f"{file}: {test}: an exception that nothing needs" for file, test in ACCEPTED.keys() - needed]
    wrong += [f"{one['filename']}: {one['reason']}" for one in told["errors"]]
    return Findings(f"{told['metrics']['_totals']['loc']:,} lines of mutt/, by bandit", wrong)
