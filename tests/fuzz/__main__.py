"""``python -m tests.fuzz``: each target in a process of its own, guided by coverage, for some seconds.

What fails stays in ``tests/fuzz/crashes``, where ``tests/unit/test_fuzz_targets.py`` replays it with every test run.
What is worth trying again stays in ``.fuzz``.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import subprocess
import sys
import zlib
from pathlib import Path

import zstandard

try:
    import atheris
except ImportError:
    atheris = None

CORPUS = Path(".fuzz")

#: What net-snmp sent.
DATAGRAMS = Path(__file__).parents[1] / "unit" / "snmp_datagrams.json"

#: A body of this size is read in well under a second; seconds that one may take on a busy machine; MiB in all.
MOST, SLOWEST, ROOM = 20_000, 20, 2048


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    asked.add_argument("targets", nargs="*", help="by name; none: all")
    asked.add_argument("--seconds", type=int, default=60, help="for each target")
    asked.add_argument("--here", action="store_true", help="in this process: one target")
    told = asked.parse_args()
    if atheris is None:
        print(
            "atheris can't be had here (it has wheels for Linux on x86-64): hypothesis alone makes up the bytes"
        )
        return 0
    if told.here:
        return fuzz(told.targets[0], told.seconds)
    names = told.targets or importlib.import_module("tests.fuzz.targets").TARGETS
    failed = [name for name in names if not _ends_well(name, told.seconds)]
    for name in failed:
        print(f"{name} failed; what did it is in tests/fuzz/crashes")
    return bool(failed)


def _ends_well(name: str, seconds: int) -> bool:
    print(f"== {name}, {seconds} s", flush=True)
    again = [sys.executable, "-m", "tests.fuzz", "--here", name, "--seconds", str(seconds)]
    return subprocess.run(again, check=False).returncode == 0


def fuzz(name: str, seconds: int) -> int:
    """One target, until its time is up. libFuzzer ends the process."""
    with atheris.instrument_imports(include=["mutt", "json"]):
        targets = importlib.import_module("tests.fuzz.targets")
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(name, targets)):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = CORPUS / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in targets.WORDS))
    options = {
        "dict": words,
        "max_total_time": seconds,
        "max_len": MOST,
        "timeout": SLOWEST,
        "rss_limit_mb": ROOM,
        "artifact_prefix": f"{targets.CRASHES}/{name}-",
        "verbosity": 0,
        "print_final_stats": 1,
    }
    atheris.Setup(
        ["fuzz", *(f"-{key}={value}" for key, value in options.items()), str(corpus)], targets.TARGETS[name]
    )
    atheris.Fuzz()
    return 0


def seeds(name: str, targets: object) -> list[bytes]:
    """What the target reads in earnest: the samples and the vectors, dressed as it wants them."""
    files = [path for folder in targets.SEEDS for path in sorted(folder.rglob("*")) if path.is_file()]  # type: ignore[attr-defined]
    plain = [path.read_bytes()[:MOST] for path in files]
    if name == "datagram":
        return [bytes.fromhex(data) for data in json.loads(DATAGRAMS.read_text()).values()]
    if name == "decompressed":
        packers = (
            gzip.compress,
            zlib.compress,
            zstandard.compress,
            lambda data: zstandard.compress(gzip.compress(data)),
        )
        return [bytes([at]) + pack(data) for data in plain for at, pack in enumerate(packers)]
    if name == "framed":
        head = b"\x07POST /ingest HTTP/1.1\r\nHost: x\r\n"
        sized = [head + b"Content-Length: %d\r\n\r\n" % len(data[:500]) + data[:500] for data in plain]
        return [*sized, head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
    return plain


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _twice(data: bytes) -> bytes:
    return zstandard.compress(gzip.compress(data))


if __name__ == "__main__":
    sys.exit(main())
