"""Audit: locks, licences, MUTT's own code, and known vulnerabilities. Needs the network for the last alone.

Exit code: 0 nothing is wrong; 1 something is; 3 nothing is as far as could be seen.
"""

from __future__ import annotations

import sys

from tests.audit import advisories, code, licences, locks


def main() -> int:
    """Run every check, and say what each found."""
    worst = 0
    for module in (locks, licences, code, advisories):
        found = module.check()
        if found.blind:
            print(f"not seen  {found.about}: {found.blind}")
            worst = worst or 3
        elif not found.wrong:
            print(f"well      {found.about}")
        for one in found.wrong:
            print(f"WRONG     {one}")
            worst = 1
    return worst


if __name__ == "__main__":
    sys.exit(main())
