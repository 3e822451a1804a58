"""The doctor: what is wrong with an installation, or will be, each with its fix.

``finding``   what one check says
``redis``     Redis' persistence, eviction, memory, replicas           pure
``postgres``  PostgreSQL's version, durability, pools, months          pure
``wire``      what others could read on the way to each server  pure
``flow``      the clocks, the queues, the books, the breaker           pure
``ask``       gathers what those are told, and puts their words in order
"""
