"""HTTP's addresses: thin views over the pipeline.

``ingest``  events come in      ``health``  is this process well, what it needs, its metrics
``keys``    who may send        ``admin/``  rules, hosts and teams, behind the login in ``auth``
``openapi`` what ingest answers ``worker``  how gunicorn reads requests, with ``framing`` and ``refused``
``intake``  what a post becomes ``lane``    which posts share a thread
"""
