"""Hypothesis' profiles: no deadline an example on a busy machine; ``quick`` (``make check``) tries fewer examples,
``fuzz`` (``make fuzz``) many more."""

from hypothesis import settings

settings.register_profile("house", settings.default, deadline=None)
settings.register_profile("quick", settings.default, max_examples=20, deadline=None)
settings.register_profile("fuzz", settings.default, max_examples=20_000, deadline=None, print_blob=True)
settings.load_profile("house")
