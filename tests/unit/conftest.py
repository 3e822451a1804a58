"""Hypothesis for the unit tests: ``make fuzz`` takes the profile ``fuzz``, every other run Hypothesis' own."""

from hypothesis import settings

settings.register_profile("fuzz", max_examples=20_000, deadline=None, print_blob=True)
