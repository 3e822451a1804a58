"""MUTT stands between a network's noise and an operations team.

The way of an event, and where each step lives::

    senders ──HTTP──▶ ingest ──append──▶ ingest_queue ──▶ evaluate ──COPY──▶ event_audit_log
                      web/               streams/         pipeline, rules/   store/
                      formats/                               │settle
                                                             ▼
                          Moog ◀──HTTP── forward ◀─take─ alert_queue:<lane>
                          moog/          budget/    │settle
                                                    ▼
                                         delivery_queue ──▶ record ──▶ alerts.status

Celery runs the work, Redis streams hold the data: a Celery message is a doorbell that says "there is work",
and losing, repeating or reordering one is harmless.

Where to look:

``event``       what travels                      ``pipeline``  the use cases, readable top-down
``formats/``    wire bytes -> events              ``streams/``  append, take, settle, release
``rules/``      event -> verdict                  ``store/``    all SQL
``alert``       verdict -> alert                  ``budget/``   the shared rate limit and the breaker
``moog/``       alert -> HTTP -> outcome          ``services``  settings -> collaborators
``tasks/``      Celery's addresses                ``web/``      HTTP's addresses
``cli/``        the shell's addresses             ``embedded/`` one machine: servers and a supervisor
``letters/``    the dead letters' ways out        ``sources/``  what is seen of who sends
``listen/``     off the wire, onto disk, to ingest  ``client/``   events from other programs in Python

Imports point down only (setup.cfg holds the contract, ``make check`` runs it).
"""

__version__ = "0.1.0"
