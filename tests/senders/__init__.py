"""Real senders for acceptance tests: each runs from its own files in ``examples/``, with addresses and key put in.

What is documented is what ran. ``base`` says what a sender is, ``outage`` leads them through one.
"""
