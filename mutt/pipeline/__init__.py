"""The pipeline: MUTT's use cases, each readable top-down, with its collaborators passed in.

``accept``    a request's events join a round and stand in the stream     (web/ingest)
``spill``     what came in while the stream was away flows back into it    (tasks/maintenance)
``evaluate``  entries become audit rows and alerts, then they are settled  (tasks/alerts)
``forward``   one turn: permission and alert, POST, outcome                (tasks/moog)
``record``    outcomes become the alerts' status; the sweep                (tasks/housekeeping, maintenance)

Nothing here knows Celery, Flask, Redis, PostgreSQL or HTTP: ``ports`` says what each use case needs of them, and
``mutt.services`` fits the real ones.
"""
