"""One machine: a private Redis and PostgreSQL, and a supervisor that keeps MUTT's processes running.

``ports``     the port asked for, or the next free one      ``process``     how one process starts, is ready and ends
``redis``     a private Redis                               ``supervisor``  all of them, in order
``postgres``  a private PostgreSQL                          ``reaper``      ends them all if the supervisor is killed
``account``   whom PostgreSQL runs as under root            ``home``        MUTT_HOME: lock, secrets, ``up.json``
"""
