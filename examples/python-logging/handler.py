"""A program that logs to MUTT with mutt.client: every line of standard input is something that it has to say.

    MUTT=https://mutt.example.net MUTT_KEY=YOUR-API-KEY python handler.py < lines

A blank line asks for the books: what was put in, and what became of it.
"""

import dataclasses
import json
import logging
import os
import sys

from mutt.client import MuttHandler

# Whoever logs never waits. What waits is in memory, up to 10,000 records; the oldest go first, and are counted.
mutt = MuttHandler(os.environ["MUTT"], os.environ["MUTT_KEY"], hostname="fan-watcher", tags={"site": "dc2"})

logging.basicConfig(level=logging.INFO, handlers=[mutt, logging.StreamHandler()])
log = logging.getLogger("fans")

for line in sys.stdin:
    if line.strip():
        log.critical(line.strip())
    else:
        print(json.dumps(dataclasses.asdict(mutt.client.counts)), flush=True)

logging.shutdown()  # sends what waits, for a few seconds
