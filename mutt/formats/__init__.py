"""Wire bytes become events here: one file a sender, a splitter for JSON bodies, a registry that finds the files.

How do I add a format?

1. Copy ``snmptrap.py`` (JSON) or ``syslog.py`` (lines of text) to ``<name>.py`` and change what it reads. A module
   is a format if it has a ``FORMAT``; the registry walks this package, so there is no list to extend. What a format
   writes is small: ``name``, ``marks`` and ``claims`` (how to know one of its objects), ``inside`` (if one object
   wraps an array of them) and ``read``, which turns one object into :class:`~mutt.formats.base.Fields`.
2. Put a sample of what the sender really posts into ``tests/samples/<name>/`` and what must come of it beside it
   (``first.json`` and ``first.expected.json``). A test fails for a format without a sample.

Ids, stamps, limits, the checks every event needs, and the reading of times are done around ``read``, in ``collector``;
what JSON needs besides is in ``objects``, what text needs in ``pieces``, and what goes in and comes out in ``base``.
Words for values (severities, facilities, states) are in ``values``, times in ``times``, OIDs in ``traps``.
"""
