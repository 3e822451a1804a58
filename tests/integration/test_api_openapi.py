"""/api/v2/openapi.json says what the management API does, and the API does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import Engine

from mutt.services import Services
from mutt.settings import Settings
from mutt.web.admin.app import make_admin
from mutt.web.api.app import all_routes
from mutt.web.api.openapi import document
from tests.admin_client import settings_of

KEY = "management-5e1f"

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

nowhere = Settings.from_env(
    {}, database_url="postgresql://mutt@127.0.0.1:1/mutt", redis_url="redis://127.0.0.1:1/0"
)
told = orjson.loads(
    orjson.dumps(
        document(all_routes(Services(nowhere, lambda _queue, **_labels: None, role="admin", web=True)))
    )
)
schema = schemathesis.openapi.from_dict(told)
longer = settings.get_current_profile_name() == "fuzz"


@pytest.fixture
def app(engine: Engine, database_url: str, redis_url: str) -> Flask:
    return make_admin(settings_of(database_url, management_api_key=KEY, redis_url=redis_url), engine)


@schema.parametrize()
@settings(
    max_examples=500 if longer else 10,
    derandomize=not longer,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_the_document_describes(app: Flask, case: schemathesis.Case) -> None:
    case.headers = {**(case.headers or {}), "X-API-KEY": KEY}
    case.call_and_validate(app=app, base_url="http://admin/api/v2", checks=CHECKS)


def test_every_route_is_described_and_every_description_has_a_route(app: Flask) -> None:
    described = {(path, method.upper()) for path, of in told["paths"].items() for method in of}
    for version in ("v1", "v2"):
        routes = set()
        for rule in app.url_map.iter_rules():
            if rule.endpoint.startswith(f"api_{version}."):
                path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule.removeprefix(f"/api/{version}"))
                routes |= {
                    (path, method) for method in rule.methods or () if method not in ("HEAD", "OPTIONS")
                }
        assert routes == described


def test_the_served_document_is_this_one_and_needs_no_key(app: Flask) -> None:
    for version in ("v1", "v2"):
        assert app.test_client().get(f"/api/{version}/openapi.json").get_json() == told


def test_the_page_for_people_lists_every_resource() -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    listed = set(re.findall(r"^\| `(\S+)` \| ([A-Z, ]+) \|", page, re.M))
    assert listed == {
        (path, ", ".join(method.upper() for method in of)) for path, of in told["paths"].items()
    }
