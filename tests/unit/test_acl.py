"""Redis' users where data and doorbells stand on two servers."""

from __future__ import annotations

from mutt.streams import acl

SECRETS = {role: acl.hashed(role) for role in acl.ROLES}


def rights(part: str) -> dict[str, set[str]]:
    """What each user may do on a server that holds this part."""
    lines = [line.split(" (") for line in acl.file(SECRETS, part=part).splitlines()[1:]]
    return {head.split()[1]: {right.rstrip(")") for right in found} for head, *found in lines}


def test_a_user_may_do_on_two_servers_what_it_may_on_one_and_each_thing_where_it_belongs() -> None:
    whole, data, broker = rights(""), rights(acl.DATA_PART), rights(acl.BROKER_PART)
    assert {role: data.get(role, set()) | broker.get(role, set()) for role in acl.ROLES} == whole
    assert not [right for found in broker.values() for right in found if "mutt:" in right]
    assert all("mutt:" in right for found in data.values() for right in found)


def test_who_only_rings_or_looks_on_has_no_way_to_the_data() -> None:
    assert set(acl.ROLES) - rights(acl.DATA_PART).keys() == {"beat", "flower"}
    assert rights(acl.BROKER_PART).keys() == set(acl.ROLES)


def test_nobody_listens_where_celery_says_nothing() -> None:
    assert "celeryev" not in acl.file(SECRETS, part=acl.DATA_PART)
    assert "subscribe" not in acl.file(SECRETS, part=acl.DATA_PART)
