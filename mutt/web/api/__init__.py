"""The management API: what the admin's pages do, for programs; under ``/api/v2`` and, the same, ``/api/v1``.

``routes``    a resource's address, what it takes and gives     ``wire``     key, body, answers, errors
``rules``     rules, hosts, teams, maintenance, storms          ``records``  audit, history, alerts, explanations
``ruleset``   versions, plans, tests, the linter, back-tests    ``state``    metrics, settings, SLOs, version
``openapi``   all of it described: ``/api/v2/openapi.json``     ``docs``     a page to try it: ``/api/docs``

A resource is an entry in its module's ``routes``: the address, the check and the description come from there.
"""
