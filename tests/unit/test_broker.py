"""Where doorbells go: a Redis or a RabbitMQ, read from one setting, as kombu spells it, and never with its secret."""

from __future__ import annotations

import ssl

import pytest

from mutt.errors import SettingsError
from mutt.settings import Settings
from mutt.streams.connect import broker

LOGIN = "mutt:pass%2Fword@"


def at(address: str, **more: str) -> Settings:
    return Settings.from_env({"BROKER_URL": address, "REDIS_URL": "redis://h:6379/0", **more})


@pytest.mark.parametrize(
    ("given", "spelt"),
    [
        (f"amqp://{LOGIN}h:5672/mutt", f"amqp://{LOGIN}h:5672/mutt"),
        ("amqp://h", "amqp://h"),
        (f"amqp://{LOGIN}h,h2:5673//", f"amqp://{LOGIN}h//;amqp://{LOGIN}h2:5673//"),
        ("redis://h:6379/1", "redis://h:6379/1"),
        (
            f"sentinel://{LOGIN}h,h2:26380/0?master=mutt",
            f"sentinel://{LOGIN}h:26379/0;sentinel://{LOGIN}h2:26380/0",
        ),
    ],
)
def test_an_address_is_spelt_as_kombu_wants_it(given: str, spelt: str) -> None:
    told = broker(at(given))
    assert (told.url, told.ssl) == (spelt, None)


def test_over_tls_the_certificate_is_always_checked() -> None:
    told = broker(at(f"amqps://{LOGIN}h:5671/mutt"))
    assert told.ssl == {"cert_reqs": ssl.CERT_REQUIRED, "tls_minimum_version": ssl.TLSVersion.TLSv1_2}


def test_files_that_are_not_there_are_named_with_their_setting() -> None:
    with pytest.raises(SettingsError) as refused:
        broker(at("amqps://h", BROKER_CA="/nowhere/ca.pem"))
    assert (refused.value.name, refused.value.value) == ("BROKER_CA", "/nowhere/ca.pem")


@pytest.mark.parametrize(
    "address",
    [
        f"amqps://{LOGIN}h/mutt?ssl_cert_reqs=none",
        f"amqp://{LOGIN}h/mutt?heartbeat=0",
        "amqp://mutt:pass/word@h:5672/mutt",
        f"pyamqp://{LOGIN}h/mutt",
    ],
)
def test_an_address_that_says_more_than_where_is_refused_and_its_password_not_repeated(address: str) -> None:
    with pytest.raises(SettingsError) as refused:
        at(address)
    assert refused.value.name == "BROKER_URL"
    assert "pass" not in refused.value.value
    assert "word" not in refused.value.value
