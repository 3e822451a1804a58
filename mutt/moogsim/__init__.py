"""A Moog that answers as told: for tests, and for people who have no Moog at hand.

``wire``     what came -> events, in both dialects, and the answers of each
``script``   how to answer: accept, refuse, throttle, drip, hang up …
``book``     what came and when, counted and folded by signature
``handler``  the HTTP side: the two endpoints of Moog, and the simulator's own
``server``   the simulator in a process, or as one
"""
