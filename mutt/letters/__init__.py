"""The dead letters' use cases, the same for the shell and the pages.

``desk``    look at, replay, drop, replace by a copy; each is noted in the configuration history
``copies``  what of an event or alert may be changed in a copy, and how it is written
``trial``   what the present rules and PostgreSQL would make of it, with nothing written
``apart``   a trial in a process of its own, which it may end (``child``)
``pace``    how many letters may go now, so that what is fresh never waits behind them
``remedy``  what each reason means, and what to do about it
"""
