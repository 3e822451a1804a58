"""Celery's addresses: each task is a few lines over the pipeline.

``base``  one process' services, and what every task does around its work   ``tick``  rings what nobody rang
``alerts``  ``moog``  ``housekeeping``  ``maintenance``  ``backtests``: named as the queues they are in
"""
