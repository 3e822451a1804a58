"""``python -m mutt.moogsim``: the simulator by itself."""

from __future__ import annotations

import argparse
from pathlib import Path

from mutt.moogsim.server import serve

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m mutt.moogsim", description="A Moog that answers as told."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8888, help="0: any free one")
    parser.add_argument("--port-file", type=Path, help="write the port here")
    parser.add_argument("--require-key", default="", help="answer 401 to a request without this key")
    given = parser.parse_args()
    serve(given.host, given.port, require_key=given.require_key, port_file=given.port_file)
