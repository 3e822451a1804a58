"""The durable streams: where the data of every queue stands, and the four moves it can make.

``append``   a round of entries comes in, all or nothing, once
``take``     entries are handed to a consumer: first those of the dead, then new ones
``settle``   the work is committed: the entry goes, the books move, what follows is appended
``release``  the entry is handed back, for later

Each is one Lua script (the ``.lua`` files here, with ``prelude.lua`` before them), so that no process can die
in the middle of a move. A settle also controls noise (``noise.lua``; its parts are ``signatures.lua``, ``storms.lua``
and ``cleared.lua``). ``stream`` is their Python face, ``rounds`` the group commit of ingest, ``books`` reads the
ledger and recounts it, ``letters`` looks after the dead letters, ``due`` after what noise control owes later. The
names are in ``mutt.names``, the values that pass to and fro in ``mutt.entry``, and what an entry looks like on the
wire in ``mutt.codec``.
"""
