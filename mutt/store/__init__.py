"""All SQL: what MUTT keeps in PostgreSQL, and how it is read and written.

``engine``      connections, and errors as MUTT's own      ``tables``      what stands where
``audit``       one row for every event, by COPY           ``partitions``  its months: made, listed, retired
``alerts``      what Moog is to be told, and was told      ``archive``     retired months as files
``rulebook``    the rules, and the ruleset they make       ``devices``     development hosts, teams of devices
``history``     who changed which configuration            ``migrate``     from any older schema to this one
``spill``       rounds that came in while Redis was away   ``past``        stored events, in bulk
``backtests``   drafts that are tried on them, as jobs

Functions take a connection: whoever calls owns the transaction (``engine.transaction``).
"""
