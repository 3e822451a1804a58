"""/openapi.json says what ingest does, and ingest does what it says, as schemathesis finds by asking."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from jsonschema_rs import Draft202012Validator
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from mutt.formats import registry
from mutt.grant import INGEST, Grant, digest_of
from mutt.settings import Settings
from mutt.streams.keys import KeysCopy
from mutt.web.openapi import document
from mutt.web.refused import REFUSALS
from mutt.web.splunk import EVENTS, HEALTH, RAW
from tests.integration.test_ingest import KEY, Ingest, is_problem

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

schemathesis.serializer.alias("application/x-ndjson", "text/plain")
schema = schemathesis.openapi.from_dict(document(Settings.from_env({})))
longer = settings.get_current_profile_name() == "fuzz"


@pytest.fixture
def ingest(redis_url: str) -> Ingest:
    made = Ingest(redis_url, ingest_max_depth=10**9)
    narrow = Grant("narrow", (INGEST,), formats=("syslog",))
    limited = Grant("limited", (INGEST,), quota=1)
    KeysCopy(made.redis).publish({digest_of(b"narrow"): narrow, digest_of(b"limited"): limited}, {})
    return made


#: What is answered by the view of another address; test_splunk asks each.
ALIASES = [*EVENTS[1:], *RAW[1:], *HEALTH[1:]]


@schema.exclude(path=ALIASES).parametrize()
@settings(
    max_examples=2_000 if longer else 10,
    derandomize=not longer,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_the_document_describes(ingest: Ingest, case: schemathesis.Case) -> None:
    case.headers = {**(case.headers or {}), "X-API-KEY": KEY}
    case.call_and_validate(app=ingest.app, base_url="http://ingest", checks=CHECKS)


def test_the_document_names_every_path_and_method_of_the_application_and_no_other(ingest: Ingest) -> None:
    automatic = {"HEAD", "OPTIONS"}
    routes: dict[str, set[str]] = {}
    for rule in ingest.app.url_map.iter_rules():
        path = re.sub(r"<_?(\w+?)_?>", r"{\1}", rule.rule)
        routes.setdefault(path, set()).update((rule.methods or set()) - automatic)
    told = document(ingest.services.settings)["paths"]
    methods = {path: {name.upper() for name in told[path]} - automatic - {"PARAMETERS"} for path in told}
    assert methods == routes


def test_the_document_names_every_format(ingest: Ingest) -> None:
    served = ingest.client.get("/openapi.json").get_json()
    assert served == document(ingest.services.settings)
    (chosen,) = served["paths"]["/ingest/{format}"]["parameters"]
    assert chosen["schema"]["enum"] == sorted(registry.FORMATS)


def test_the_document_and_the_table_for_people_name_what_is_refused_before_the_application() -> None:
    """By gunicorn's parser, by the framing, and for slowness."""
    before = {status for _, status, _ in REFUSALS} | {400, 408, 413, 431}
    assert max(before) < 500, "no sender makes an error of ours"
    told = document(Settings.from_env({}))["paths"]["/ingest"]["post"]["responses"]
    assert before <= set(map(int, told))
    table = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    rows = re.findall(r"^\| ([\d, ]+) \|", table, re.M)
    assert before <= {int(status) for row in rows for status in row.split(",")}


def test_the_refusals_that_the_application_gives_are_problems_as_described(ingest: Ingest) -> None:
    told = document(ingest.services.settings)
    problem = Draft202012Validator(
        told["components"]["schemas"]["Problem"] | {"components": told["components"]}
    )
    good = {"hostname": "h", "message": "m"}
    asked: list[tuple[int, Any]] = [
        (400, ingest.post(b"[")),
        (400, ingest.post([{}, 1])),
        (401, ingest.post(good, key="wrong")),
        (403, ingest.post(good, key="narrow")),
        (404, ingest.post(good, "/ingest/pigeon")),
        (413, ingest.post([good, good], key="limited")),
        (413, ingest.post(b"[" + b"{}," * 300_000 + b"{}]")),
        (415, ingest.post(good, Content_Encoding="br")),
    ]
    assert ingest.post(good, key="limited").status_code == 202
    asked.append((429, ingest.post(good, key="limited")))
    for status, response in asked:
        assert problem.is_valid(is_problem(response, status))
        assert str(status) in told["paths"]["/ingest/{format}"]["post"]["responses"]
    ingest.services.redis.config_set("maxmemory", 1)
    try:
        assert problem.is_valid(is_problem(ingest.post(good), 503))
    finally:
        ingest.services.redis.config_set("maxmemory", 0)
