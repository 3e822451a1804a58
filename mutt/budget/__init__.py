"""The budget: where the story of Moog's rate limit is told.

All forwarders together may start ``MOOG_RATE_LIMIT`` requests in any window of ``MOOG_RATE_PERIOD``. ``gate.lua``
keeps a sliding log of what it granted, on Redis' clock, and it runs inside the very script that hands out the
alert, so nothing can die between permission and work. A grant is good for a moment only, its ``slack``; the
log's window is the period plus that slack. If two grants are a window apart, then the first was used at most a
slack after it was given and the second not before: the two requests are a period apart, whatever the network did::

    grant 1 |--slack--|                       window = period + slack
            ^ first byte at the latest here
    grant N+1                |                at least a window after grant 1
                             ^ first byte at the earliest here

``arithmetic``  the window, the slack, and the gate's options
``permit``      what a grant looks like to the HTTP client
``gate.lua``    pause, breaker, half-open probe and log, as one step of take, settle and release
"""
