"""Access: keys, the admin key, localhost alone without any, and no page of another site."""

import pytest

from serving.api.auth import client_name, is_trusted, require_allowed
from serving.api.errors import Forbidden, KeyRequired
from serving.settings import Settings

HOST = {"host": "localhost:3000"}
OPEN, KEYED = Settings(), Settings(api_keys=("k1", "k2"), admin_key="a")
CHAT, LOAD = ("POST", "/v1/chat/completions"), ("POST", "/v1/steering/vectors")


def ask(settings, route, *, key=None, client="127.0.0.1", headers=HOST):
    bearer = {} if key is None else {"authorization": f"Bearer {key}"}
    require_allowed(settings, *route, {**headers, **bearer}, client)


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1", None])
@pytest.mark.parametrize("host", ["localhost", "localhost:3000", "127.0.0.1:3000", "[::1]:3000"])
def test_without_keys_this_machine_may_do_everything(client, host):
    ask(OPEN, CHAT, client=client, headers={"host": host})
    ask(OPEN, LOAD, client=client, headers={"host": host})


@pytest.mark.parametrize("client", ["10.0.0.7", "192.168.1.2", "2001:db8::1", "1.127.0.0"])
def test_without_keys_other_machines_see_only_health(client):
    with pytest.raises(Forbidden, match="TRUSTTRACE_API_KEYS"):
        ask(OPEN, CHAT, client=client)
    with pytest.raises(Forbidden):
        ask(OPEN, ("GET", "/"), client=client)
    ask(OPEN, ("GET", "/readyz"), client=client)
    ask(OPEN, ("GET", "/metrics"), client=client)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {**HOST, "origin": "https://evil.example"},
        {**HOST, "origin": "null"},
    ],
)
def test_without_keys_other_sites_are_refused(headers):
    with pytest.raises(Forbidden):
        ask(OPEN, CHAT, headers=headers)


@pytest.mark.parametrize(
    "name", ["x-stainless-os", "traceparent", "x-request-id", "x-steering", "user-agent", "x-client-name"]
)
def test_headers_of_ordinary_clients_are_no_sign_of_a_proxy(name):
    ask(OPEN, CHAT, headers={**HOST, name: "203.0.113.9"})


def test_who_may_be_behind_a_proxy_reads_no_paths():
    assert is_trusted(OPEN, HOST, "127.0.0.1", "1.1")
    assert not is_trusted(OPEN, HOST, "127.0.0.1", "1.0")
    assert not is_trusted(OPEN, {**HOST, "via": "1.0 fred"}, "127.0.0.1", "1.1")


def test_the_own_page_is_let_in():
    ask(OPEN, CHAT, headers={**HOST, "origin": "http://localhost:3000"})


def test_with_keys_a_known_one_is_needed_from_anywhere():
    for key in ("k1", "k2", "a"):
        ask(KEYED, CHAT, key=key, client="10.0.0.7", headers={"host": "api.example"})
    for key in (None, "", "k", "k1k2", "k1 "[:2] + "x"):
        with pytest.raises(KeyRequired):
            ask(KEYED, CHAT, key=key)
    ask(KEYED, ("GET", "/"))
    ask(KEYED, ("GET", "/playground/style.css"))


@pytest.mark.parametrize(
    "route",
    [LOAD, ("DELETE", "/v1/steering/vectors"), ("PUT", "/v1/steering/default"), ("DELETE", "/v1/steering/default/")],
)
def test_only_the_admin_key_administers(route):
    ask(KEYED, route, key="a")
    with pytest.raises(Forbidden, match="admin key"):
        ask(KEYED, route, key="k1")
    with pytest.raises(KeyRequired):
        ask(KEYED, route)
    with pytest.raises(Forbidden, match="TRUSTTRACE_ADMIN_KEY"):
        ask(Settings(api_keys=("k1",)), route, key="k1")


def test_an_admin_key_alone_guards_only_changes():
    settings = Settings(admin_key="a")
    ask(settings, CHAT)
    with pytest.raises(KeyRequired):
        ask(settings, LOAD)
    with pytest.raises(Forbidden):
        ask(settings, CHAT, client="10.0.0.7")
    ask(settings, LOAD, key="a", client="10.0.0.7", headers={"host": "api.example"})


def test_nobody_is_many_clients_by_inventing_keys():
    def name(settings, key, address="10.0.0.7"):
        return client_name(settings, {"authorization": f"Bearer {key}"}, address)

    assert {name(OPEN, key) for key in ("none", "a", "b")} == {"10.0.0.7"}
    assert {name(KEYED, key) for key in ("k3", "k4", "")} == {"10.0.0.7"}
    known = {name(KEYED, key, address) for key in ("k1", "k2", "a") for address in ("10.0.0.7", "10.0.0.8")}
    assert len(known) == 3 and not any("k1" in each for each in known)
