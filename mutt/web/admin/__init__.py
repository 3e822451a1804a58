"""The admin: an operator's pages over rules, hosts and teams, and what became of events.

``app``    the WSGI application      ``rules``, ``devices``  what can be changed, each change noted
``page``   what every page shares    ``home``, ``records``   what can be looked at
``forms``  what is filled in             ``letters``           the dead letters, over ``mutt/letters``

Flask-Admin gives the views their addresses, the menu and the question whether one may enter. Its model views are
left out: every write goes through ``store.rulebook`` and ``store.devices``, which check, note and commit in one
transaction, and the pages need no script, so that the browser is told to run none.
"""
