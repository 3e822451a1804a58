"""Explain: what became of one event or one alert, and why.

``facts``     what is told             ``gather``    the questions: PostgreSQL, the rules, Redis
``standing``  where it stands in Redis ``answer``    the first sentence; pure
"""
