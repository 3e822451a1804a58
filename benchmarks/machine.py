"""Where a figure comes from: the machine, its disk and the versions of what ran."""

from __future__ import annotations

import os
import platform
import statistics
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import redis

from mutt import __version__

_PACKAGES = (
    "celery",
    "flask",
    "google-re2",
    "gunicorn",
    "hiredis",
    "kombu",
    "msgspec",
    "orjson",
    "psycopg2-binary",
    "redis",
    "sqlalchemy",
    "zstandard",
)
_SYNCS, _PAGE = 200, 8192


def machine(directory: Path) -> dict[str, Any]:
    """Cores, CPU, memory, load before the start, and the disk below ``directory``."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": allowed,
        "cpu": _cpu_model(),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "system": platform.platform(),
        "load_before": round(os.getloadavg()[0], 2),
        "fdatasync_us": round(_sync_seconds(directory) * 1e6, 1),
    }


def versions(redis_url: str, database_url: str) -> dict[str, str]:
    """What ran: Python, the two servers, MUTT and the packages that matter."""
    with redis.Redis.from_url(redis_url) as client:
        info = client.info("server")
    name = str(info.get("server_name", "redis"))
    connection = psycopg2.connect(database_url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            (postgres,) = cursor.fetchone() or ("",)
    finally:
        connection.close()
    found = {package: metadata.version(package) for package in _PACKAGES}
    server = f"{name} {info.get(f'{name}_version', info['redis_version'])}"
    return {
        "mutt": __version__,
        "python": platform.python_version(),
        "redis server": server,
        "postgresql": postgres,
    } | found


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _sync_seconds(directory: Path) -> float:
    """The median time that writing a page and syncing it takes: what one COMMIT waits for at least."""
    path, taken = directory / "sync", []
    with path.open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            started = time.perf_counter()
            file.write(b"\0" * _PAGE)
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - started)
    path.unlink()
    return statistics.median(taken)
