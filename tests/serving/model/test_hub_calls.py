"""Calls to a hub that behaves as hubs, mirrors, gateways and networks do."""

import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import httpx2
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

from registry.errors import TrustTraceError, Unavailable, UnknownName
from serving.model import hub_calls
from serving.model.hub import list_files
from serving.model.language_model import load
from serving.model.sources import find_series
from serving.model.weights import locate
from tests.hub_server import REPO, Fault, hub_server
from tests.mutants import mutant

REFS, TREE, WEIGHTS = "/refs", "/tree/", "GET .*model.safetensors$"
SOON = "in one minute"


def in_a_minute():
    return format_datetime(datetime.now(UTC) + timedelta(seconds=61), usegmt=True)


@pytest.fixture
def waits(monkeypatch):
    """The seconds that would be waited."""
    found = []
    monkeypatch.setattr(hub_calls, "time", SimpleNamespace(sleep=found.append))
    return found


WAITS = [
    ({"Retry-After": "60"}, 60, 60),
    ({"retry-after": " 60 "}, 60, 60),
    ({"Retry-After": SOON}, 55, 61),
    ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0, 0),
    ({"Retry-After": "soon"}, 0.5, 0.5),
    ({"RateLimit": '"api";r=0;t=55', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}, 55, 55),
    ({"RateLimit": '"api";r=12;t=55'}, 0.5, 0.5),
    ({"Retry-After": "300"}, 300, 300),
    ({}, 0.5, 0.5),
]


def named(headers):
    return {name: in_a_minute() if value == SOON else value for name, value in headers.items()}


@pytest.mark.parametrize(("headers", "least", "most"), WAITS)
def test_the_hub_says_in_several_ways_when_to_ask_again(hub, waits, headers, least, most):
    hub.faults.append(Fault(REFS, status=429, headers=named(headers)))
    assert len(find_series(REPO)) == 5
    assert len(waits) == 1
    assert least <= waits[0] <= most


def first_wait(of, headers):
    """Seconds before ``of`` tries a call again that was refused with ``headers``; none where it does not."""
    found = []
    of.time = SimpleNamespace(sleep=found.append)
    answers = [httpx2.Response(429, headers=named(headers), request=httpx2.Request("GET", "http://hub")), None]

    def call():
        if (answer := answers.pop(0)) is not None:
            raise HfHubHTTPError("429", response=answer)

    try:
        of.tried(call, REPO)
    except TrustTraceError:
        return None
    return found[0]


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [
        ("parsedate_to_datetime(after)", "datetime.now(UTC)"),
        ("return max(0.0, (date", "return -min(0.0, (date"),
        ("and limit.remaining == 0", ""),
        ("float(min(limit.reset_in_seconds, ENDLESS))", "None"),
        ("wait > LONGEST_WAIT or not", "wait >= LONGEST_WAIT or not"),
    ],
)
def test_a_mutant_waits_otherwise(passage, replacement):
    with mutant(hub_calls, passage, replacement) as changed:
        found = [first_wait(changed, headers) for headers, _, _ in WAITS]
    assert any(wait is None or not least <= wait <= most for wait, (_, least, most) in zip(found, WAITS, strict=True))


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("where", [REFS, TREE])
def test_an_hour_is_not_waited_but_told(hub, waits, status, where):
    series = find_series(REPO) if where == TREE else None
    hub.faults.append(Fault(where, times=9, status=status, headers={"Retry-After": "3600"}))
    with pytest.raises(Unavailable, match=rf"asks to wait .*\({status}\); start again in 60 minutes"):
        find_series(REPO) if series is None else list_files(REPO, "step10")
    assert waits == []
    assert hub.counted(where) == 1


@pytest.mark.parametrize(
    "headers", [{"Retry-After": "9" * 400}, {"RateLimit": f'"api";r=0;t={"9" * 400}'}], ids=["Retry-After", "RateLimit"]
)
def test_a_wait_without_end_is_told_in_numbers(hub, waits, headers):
    hub.faults.append(Fault(REFS, times=9, status=429, headers=headers))
    with pytest.raises(Unavailable, match=r"\(429\); start again in 16,666,667 minutes"):
        find_series(REPO)
    assert waits == []


@pytest.mark.parametrize("status", [400, 402, 404, 410, 416, 451])
def test_a_refusal_that_stays_is_not_asked_for_again(hub, waits, status):
    hub.faults.append(Fault(REFS, times=9, status=status))
    with pytest.raises(Unavailable, match=rf"{hub.url} refuses org/mini .*{status}|refuses org/mini .*Bad") as caught:
        find_series(REPO)
    assert hub.counted(REFS) == 1
    assert "tries" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_disabled_repository_is_told_from_a_forbidden_one(hub):
    hub.faults.append(
        Fault(REFS, times=9, status=403, headers={"X-Error-Message": "Access to this resource is disabled."})
    )
    with pytest.raises(Unavailable, match="has disabled org/mini, for everybody"):
        find_series(REPO)


def test_a_hub_that_never_answers_is_given_up(hub, monkeypatch, waits):
    monkeypatch.setattr(hub_calls, "SILENCE", 0.05)
    hub.faults.append(Fault(REFS, times=9, delay=0.5))
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"could not be reached for org/mini in 3 tries \(ReadTimeout"):
        find_series(REPO)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("links_to", ["", "http://127.0.0.1:9"])
def test_pages_are_read_from_the_hub_that_was_asked(hub, links_to):
    hub.page_size, hub.links_to = 2, links_to
    names = [file.path for file in list_files(REPO, "step10")]
    hub.page_size = 1000
    assert names == [file.path for file in list_files(REPO, "step100")]
    assert len(names) > 4


def test_pages_that_lead_in_a_circle_end(hub):
    link = {"Link": '</api/models/org/mini/tree/x?recursive=true>; rel="next"', "Content-Type": "application/json"}
    hub.faults.append(Fault(TREE, times=99, body=b"[]", headers=link))
    with pytest.raises(Unavailable, match=r"does not answer as the hub does .*lead back"):
        list_files(REPO, "step10")
    assert hub.counted(TREE) < 4


def test_a_token_is_for_the_hub_alone(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with hub_server() as storage:
        storage.repositories = hub.repositories
        hub.storage = storage.url.replace("127.0.0.1", "localhost")
        assert load(find_series(REPO).at(10)).checkpoint.step == 10
        assert storage.counted(WEIGHTS) == 1
        assert storage.tokens == {""}
    assert "Bearer hf_secret" in hub.tokens


def test_a_token_of_odd_characters_is_refused_in_a_sentence(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_…")
    with pytest.raises(Unavailable, match="your token for the hub holds characters that no token has"):
        find_series(REPO)


def test_a_renamed_repository_is_followed(hub):
    hub.moved = {"old/name": REPO}
    series = find_series("old/name")
    assert (series.model, load(series.at(10)).checkpoint.step) == ("name", 10)


def test_a_certificate_that_is_not_trusted_is_named(waits):
    def call():
        raise httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate")

    with pytest.raises(Unavailable, match=f"certificate of {constants.ENDPOINT} is not trusted .*set SSL_CERT_FILE"):
        hub_calls.tried(call, REPO)
    assert waits == []


@pytest.mark.parametrize("name", ["org/na me", "org/a..b", "org/name.git", "org/" + "n" * 97, "org/-name"])
def test_what_no_hub_can_hold_is_not_asked_for(hub, name):
    with pytest.raises(UnknownName, match="is neither a path that exists nor a hub id"):
        find_series(name)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("address", "model"),
    [
        ("https://huggingface.co/EleutherAI/pythia-70m", "EleutherAI/pythia-70m"),
        ("huggingface.co/EleutherAI/pythia-70m/tree/step1000", "EleutherAI/pythia-70m@step1000"),
        ("https://hf.co/EleutherAI/pythia-70m?library=transformers", "EleutherAI/pythia-70m"),
    ],
)
def test_the_address_of_a_page_names_the_model(address, model):
    with pytest.raises(UnknownName, match=f"give {model}$"):
        find_series(address)


@pytest.mark.parametrize("endpoint", ["hf-mirror.example", "ftp://hub", "http://", "http://[::1"])
def test_an_endpoint_that_is_no_address_is_named(hub, monkeypatch, endpoint):
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    with pytest.raises(Unavailable, match="HF_ENDPOINT is .* no address.*write it as https://huggingface.co"):
        find_series(REPO)


def test_a_mirror_may_lie_behind_a_path(hub, monkeypatch):
    hub.prefix, hub.page_size = "/mirrors/hf", 3
    monkeypatch.setattr(constants, "ENDPOINT", hub.url + hub.prefix)
    template = hub.url + hub.prefix + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    assert load(find_series(REPO).at(10)).checkpoint.step == 10


def test_a_cache_that_cannot_be_written_is_named(hub, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    with pytest.raises(Unavailable, match="file/hub.* cannot be written .*set HF_HUB_CACHE"):
        locate(find_series(REPO).at(10))


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        None,
        {"branches": None, "tags": [], "converts": []},
        {"branches": [{"name": "step1"}], "tags": [], "converts": []},
        {"branches": [{"name": "step1", "targetCommit": "HEAD"}], "tags": [], "converts": []},
        {"branches": [{"name": "../../step1", "targetCommit": "a" * 40}], "tags": [], "converts": []},
        {"branches": [{"name": "/step1", "targetCommit": "a" * 40}], "tags": [], "converts": []},
    ],
)
def test_a_listing_of_revisions_that_is_none_is_refused(hub, answer):
    hub.faults.append(Fault(REFS, times=9, body=json.dumps(answer).encode()))
    with pytest.raises(Unavailable, match="does not answer as the hub does when asked for org/mini "):
        find_series(REPO)


@pytest.mark.parametrize(
    "entries",
    [
        [],
        {},
        [{"type": "file", "path": "tokenizer/../../../up", "size": 1, "oid": "a"}],
        [{"type": "file", "path": "/etc/passwd", "size": 1, "oid": "a"}],
        [{"type": "file", "path": "config.json"}],
        [{"type": "directory", "path": "only"}],
    ],
)
def test_a_broken_listing_of_files_is_refused_and_forgotten(hub, entries):
    series = find_series(REPO)
    hub.faults.append(Fault(TREE, body=json.dumps(entries).encode()))
    with pytest.raises(Unavailable, match="does not answer as the hub does when asked for org/mini@step10 "):
        load(series.at(10))
    assert load(series.at(10)).checkpoint.step == 10


def test_a_file_of_another_commit_is_refused(hub):
    hub.misplaced = True
    with pytest.raises(Unavailable, match=r"of another commit than org/mini@[0-9a-f]{40}; mend HF_ENDPOINT"):
        load(find_series(REPO).at(10))
