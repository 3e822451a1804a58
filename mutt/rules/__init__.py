"""Rules: does this event matter? Pure: values in, a verdict out, and the verdict says why.

``rule``      the values              ``check``     what people write -> a rule, or what to mend
``evaluate``  the decision            ``starting``  what a new installation begins with
``matcher``   many patterns, one pass ``template``  a message without its numbers
``hosts``     names, globs, networks  ``oid``       OIDs on component boundaries
``gaps``      counts that are dear

A new match type is an entry in ``rule.MatchType``, its line in ``matcher.expression`` and a row in the tests.
"""
