"""Drills: break one thing of a running ``mutt up`` on purpose, see it named, mend it, and balance the books.

``site`` is the stack that is drilled, ``faults`` what can be broken and how each is mended, ``run`` the drill itself.
Each is an entry of docs/operations.md: who has seen a fault named once knows it at three in the morning.
"""
