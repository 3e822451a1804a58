"""All SQL: what MUTT keeps in PostgreSQL, and how it is read and written.

``engine``      connections, and errors as MUTT's own      ``tables``      what stands where
``audit``       one row for every event, by COPY           ``partitions``  its months: made, and listed
``alerts``      what Moog is to be told, and was told      ``archives``    retired months as files
``retention``   months go into files, and come back        ``whole``         the table and the files as one list
``exports``     a whole search, in slices of time          ``calendar``      what happens to a month when
``rulebook``    the rules, and the ruleset they make       ``devices``     development hosts, teams of devices
``history``     who changed which configuration            ``migrate``     from any older schema to this one
``spill``       rounds that came in while Redis was away   ``past``        stored events, in bulk
``backtests``   drafts that are tried on them, as jobs

Functions take a connection: whoever calls owns the transaction (``engine.transaction``).
"""
