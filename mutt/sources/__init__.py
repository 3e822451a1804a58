"""Sources: what is seen of each who sends, by the name of its key; and what that says. Pure.

``heard`` is what one process saw in a few seconds, ``observed`` what all of that comes to, ``clock``, ``fields`` and
``learn`` what is read out of it, ``silent`` whether one that should speak does, ``view`` what people are shown.
"""
