"""The pulse: how the pipeline is at this moment, how it was in the last hour, and what holds it up.

Each process tells how it is every two seconds (``report``), one of the fleet reads everything every five and keeps
the reading in Redis for an hour (``collect``), and ``judge`` names the bottleneck by rules that know no server. The
pipeline page, ``mutt top``, the API and the drills all show the same reading: whoever looks costs the hot path nothing.
"""
