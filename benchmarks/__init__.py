"""How fast MUTT is, and how much faster than the designs it succeeds: measured against both in the same run.

::

    python -m benchmarks --quick

``__main__``       the command                 ``load``           the load generator, a process of its own
``steps``          what is measured            ``subjects``       MUTT and the two baselines, as processes
``runs``           one timed run, rows counted ``list_and_row``   baseline (a): a list, a row an event
``figures``        results: JSON and a table   ``plain_celery``   baseline (b): a task and a row an event
``corpus``         events and rules            ``baseline``       what both baselines share
``site``           private Redis, PostgreSQL   ``machine``, ``cpu``  where it ran, and what it cost
"""
