"""How fast MUTT is, and how much faster than the designs it succeeds: measured against both in the same run.

::

    python -m benchmarks --quick

``__main__``  the command                         ``load``           the load generator, a process of its own
``steps``     what is measured, a module a step   ``subjects``       MUTT and the two baselines, as processes
``bench``     what every step works with          ``list_and_row``   baseline (a): a list, a row an event
``runs``      one timed run, rows counted         ``plain_celery``   baseline (b): a task and a row an event
``figures``   a thing measured, in any unit       ``baseline``       what both baselines share
``report``    all figures: lines, JSON, a table   ``corpus``         events and rules
``site``      private Redis, PostgreSQL           ``rows``           audit rows without a queue in front
``machine``   where it ran                        ``usage``          CPU and memory of process trees
"""
