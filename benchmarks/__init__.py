"""How fast MUTT is, and how much faster than the designs it succeeds: measured against both in the same run.

::

    python -m benchmarks --quick

``__main__``  the command                         ``load``           the load generator, a process of its own
``steps``     what is measured, a module a step   ``bodies``         the forms of a request's body
``bench``     what every step works with          ``subjects``       MUTT and the two baselines, as processes
``runs``      one timed run, rows counted         ``list_and_row``   baseline (a): a list, a row an event
``figures``   a thing measured, in any unit       ``plain_celery``   baseline (b): a task and a row an event
``report``    all figures: lines, JSON, a table   ``baseline``       what both baselines share
``compare``   a run beside the saved one          ``bare``           an application that does nothing
``corpus``    events and rules                    ``rows``           audit rows without a queue in front
``site``      private Redis, PostgreSQL           ``usage``          CPU and memory of process trees
``machine``   where it ran
"""
