"""How much of everything a rate of events needs, and what this machine does: measured first, then told by arithmetic.

``measure`` sends events through a private ingest, worker, Redis and PostgreSQL (``private``, ``flow``) and asks the
connected servers under names of its own (``scratch``); what it finds is :class:`~mutt.plan.values.Measured`.
``forecast`` says from that what more workers on this machine would do, ``arithmetic`` what a rate needs. Both are
pure: the same figures give the same plan, here and elsewhere.
"""
