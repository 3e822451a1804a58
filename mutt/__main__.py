"""``python -m mutt`` is ``mutt``."""

from mutt.cli import main

main()
