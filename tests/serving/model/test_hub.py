"""The hub over real HTTP: listed once, fetched whole, its faults survived or named."""

import gzip
import json
import shutil

import pytest
from huggingface_hub import constants

from registry.checkpoints import Checkpoint
from registry.errors import CorruptFile, InvalidInput, NotFound, TrustTraceError, Unavailable
from serving.model import hub as hub_module
from serving.model import hub_calls
from serving.model.language_model import load
from serving.model.sources import find_series
from serving.model.weights import discard, identity_of, locate
from tests.hub_server import REPO, STEPS, Fault, commit_of
from tests.mutants import mutant

EXPIRED = "Invalid credentials in Authorization header"
REFS, TREE, WEIGHTS = "/refs", "/tree/", "GET .*model.safetensors$"


def blobs(tmp_path):
    """The weights in the local cache."""
    return [path for path in (tmp_path / "hub-cache").rglob("blobs/*") if path.stat().st_size > 10_000]


def test_a_series_is_listed_once_and_a_checkpoint_once(hub):
    series = find_series(REPO)
    for checkpoint in series.select("all"):
        for _ in range(2):
            load(checkpoint)
            identity_of(checkpoint)
    assert [checkpoint.step for checkpoint in series.select("all")] == list(STEPS)
    assert (hub.counted(REFS), hub.counted(TREE)) == (1, 4)
    assert hub.counted("/api/models/") == 5


def test_only_what_loading_reads_is_fetched(hub):
    directory = hub.repositories[REPO]["step10"]
    shutil.copy(directory / "model.safetensors", directory / "consolidated.safetensors")
    (directory / "onnx").mkdir()
    (directory / "onnx" / "model.onnx").write_bytes(b"onnx")
    (directory / "pytorch_model.bin").write_bytes(b"the same in another format")
    files = locate(find_series(REPO).at(10))
    assert [path.name for path in files.originals] == ["model.safetensors"]
    assert hub.counted("GET .*(consolidated|onnx|README|pytorch)") == 0


@pytest.mark.parametrize("where", [REFS, TREE, "GET .*config.json", WEIGHTS])
@pytest.mark.parametrize(
    "fault", [{"status": 429, "headers": {"Retry-After": "1"}}, {"status": 503}, {"cut": 3}], ids=["429", "503", "cut"]
)
def test_one_fault_is_survived(hub, where, fault):
    hub.faults.append(Fault(where, **fault))
    assert load(find_series(REPO).select("last")[0]).checkpoint.step == 100
    assert hub.faults[0].times == 0


def test_the_wait_that_the_hub_asks_for_is_kept(hub, monkeypatch):
    waits = []
    monkeypatch.setattr(hub_calls.time, "sleep", waits.append)
    hub.faults.append(Fault(REFS, status=429, headers={"Retry-After": "7"}))
    assert len(find_series(REPO)) == 5
    assert [wait for wait in waits if wait] == [7.0]


def test_what_happens_to_be_cached_is_no_series(hub, tmp_path, cache):
    load(find_series(REPO).at(10))
    shutil.rmtree(cache)
    hub.faults.append(Fault(REFS, times=9, status=503))
    with pytest.raises(Unavailable, match=r"could not be reached.*503.*HF_HUB_OFFLINE=1"):
        find_series(REPO)


def test_the_last_listing_stands_in_while_the_hub_is_down(hub, caplog):
    load(find_series(REPO).at(10))
    hub.faults.append(Fault(REFS, times=9, status=503))
    assert find_series(REPO).select("last")[0].step == 100
    assert "listing" in caplog.text


def test_offline_the_rest_of_a_series_is_named(hub, monkeypatch, caplog):
    load(find_series(REPO).at(10))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    series = find_series(REPO)
    assert [checkpoint.revision for checkpoint in series] == ["step10"]
    assert {left.revision for left in series.left_out} == {"step0", "step1", "step100", "main"}
    assert "of org/mini only what is cached is used: step10" in caplog.text
    assert load(series.at(10)).n_layers == load(series.random_init).n_layers == 3
    with pytest.raises(Unavailable, match="step100 is not cached and HF_HUB_OFFLINE is set"):
        load(Checkpoint("mini", REPO, "step100", 100))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("/refs", times=9, status=401, headers={"X-Error-Code": "RepoNotFound"}), "no model 'org/mini'"),
        (
            Fault("/refs", times=9, status=401, headers={"X-Error-Message": EXPIRED}),
            "refuses your token.*expired",
        ),
        (Fault("/refs", times=9, status=429), "asks to wait"),
        (Fault("/refs", times=9, page=True), "does not answer as the hub does"),
        (Fault("/refs", times=9, status=500), "could not be reached.*in 3 tries"),
    ],
    ids=["private", "expired", "429", "portal", "500"],
)
def test_the_true_cause_is_named(hub, fault, message):
    hub.faults.append(fault)
    with pytest.raises(Unavailable, match=message) as caught:
        find_series(REPO)
    assert "\n" not in str(caught.value)


def test_a_gated_repository_says_where_to_accept(hub):
    hub.gated.add(REPO)
    with pytest.raises(Unavailable, match=f"org/mini is gated: accept its terms at {hub.url}/org/mini"):
        load(find_series(REPO).at(10))


def test_a_portal_instead_of_a_file_is_named(hub):
    series = find_series(REPO)
    hub.faults.append(Fault("(HEAD|GET) .*resolve", times=99, page=True))
    with pytest.raises(TrustTraceError, match="does not answer as the hub does"):
        load(series.at(10))


def test_a_revision_that_is_gone_is_named(hub):
    series = find_series(REPO)
    del hub.repositories[REPO]["step10"]
    with pytest.raises(NotFound, match="no longer has org/mini@step10"):
        load(series.at(10))


def test_damaged_weights_are_fetched_once_more(hub, tmp_path):
    hub.faults.append(Fault(WEIGHTS, corrupt=True))
    model = load(find_series(REPO).at(10))
    assert hub.counted(WEIGHTS) == 2
    assert model.weights_digest == locate(Checkpoint("m", str(hub.repositories[REPO]["step10"]), "main", 0)).digest()


def test_weights_that_are_always_damaged_are_refused(hub, tmp_path):
    hub.faults.append(Fault(WEIGHTS, times=9, corrupt=True))
    with pytest.raises(CorruptFile, match="damaged twice"):
        load(find_series(REPO).at(10))
    assert blobs(tmp_path) == []


def test_weights_damaged_on_disk_are_fetched_again(hub, tmp_path):
    load(find_series(REPO).at(10))
    (blob,) = blobs(tmp_path)
    blob.write_bytes(blob.read_bytes()[::-1])
    load(find_series(REPO).at(10))
    assert hub.counted(WEIGHTS) == 2


def test_a_sweep_that_deletes_leaves_no_weights(hub, tmp_path):
    held = []
    for checkpoint in find_series(REPO).select("all"):
        load(checkpoint)
        held.append(len(blobs(tmp_path)))
        discard(checkpoint)
    assert max(held) == 1
    assert blobs(tmp_path) == []


def test_equal_weights_of_two_steps_stay_until_both_are_done(hub, tmp_path):
    series = find_series(REPO)
    for step in (0, 1):
        locate(series.at(step))
    assert len(blobs(tmp_path)) == 1
    discard(series.at(0))
    assert locate(series.at(1)).originals[0].is_file()
    discard(series.at(1))
    assert blobs(tmp_path) == []


def test_a_tokenizer_that_only_main_has_is_used(hub):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (hub.repositories[REPO]["step10"] / name).unlink()
    series = find_series(REPO)
    assert load(series.at(10)).tokenizer.vocab_size == load(series.at(100)).tokenizer.vocab_size
    assert "tokenizer" in identity_of(series.at(10))
    assert "tokenizer" not in identity_of(series.at(100))


def test_a_revision_without_weights_says_so(hub):
    (hub.repositories[REPO]["step10"] / "model.safetensors").unlink()
    with pytest.raises(NotFound, match="org/mini@step10 holds no weights"):
        load(find_series(REPO).at(10))


def test_a_shard_that_the_index_lists_must_be_there(hub):
    directory = hub.repositories[REPO]["step10"]
    (directory / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CorruptFile, match="model-00001-of-00001.safetensors, which is not there"):
        load(find_series(REPO).at(10))


def test_a_mended_file_changes_the_identity_of_a_revision(hub):
    before = identity_of(find_series(REPO).at(10))
    assert before == identity_of(find_series(REPO).at(10))
    path = hub.repositories[REPO]["step10"] / "tokenizer.json"
    path.write_text(path.read_text() + " ")
    assert identity_of(find_series(REPO).at(10)) != before
    assert identity_of(find_series(REPO).random_init) == identity_of(find_series(REPO).random_init)


def test_an_abandoned_partial_download_is_removed(hub, tmp_path, monkeypatch):
    load(find_series(REPO).at(10))
    left = tmp_path / "hub-cache" / "models--org--mini" / "blobs" / "abc.1234.incomplete"
    left.write_bytes(b"half")
    load(find_series(REPO).at(100))
    assert left.is_file()
    monkeypatch.setattr("serving.model.hub.ABANDONED", -1)
    load(find_series(REPO).at(0))
    assert not left.exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_small_file_damaged_is_fetched_once_more(hub, name):
    hub.faults.append(Fault(f"GET .*/{name}$", corrupt=True))
    assert load(find_series(REPO).at(10)).checkpoint.step == 10
    assert hub.counted(f"GET .*/{name}$") == 2


def test_a_small_file_that_is_always_damaged_is_refused(hub):
    hub.faults.append(Fault("GET .*/tokenizer.json$", times=9, corrupt=True))
    with pytest.raises(CorruptFile, match=r"tokenizer.json of org/mini@step10 was damaged twice"):
        load(find_series(REPO).at(10))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_damaged_copy_stays_while_offline(hub, monkeypatch, name):
    path = locate(find_series(REPO).at(10)).directory / name
    path.resolve().write_bytes(path.read_bytes()[::-1])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CorruptFile, match=rf"{name} is damaged: .*; unset HF_HUB_OFFLINE, and it is fetched again"):
        load(find_series(REPO).at(10))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert load(find_series(REPO).at(10)).checkpoint.step == 10


def test_names_of_files_may_hold_any_character(hub):
    folder = hub.repositories[REPO]["step10"] / "additional_chat_templates"
    folder.mkdir()
    (folder / "für #1? 50%.jinja").write_text("{{ messages }}")
    assert locate(find_series(REPO).at(10)).directory.joinpath(folder.name, "für #1? 50%.jinja").is_file()


def test_a_small_file_may_come_compressed(hub):
    content = (hub.repositories[REPO]["step10"] / "tokenizer.json").read_bytes()
    hub.faults.append(
        Fault("GET .*/tokenizer.json$", body=gzip.compress(content), headers={"Content-Encoding": "gzip"})
    )
    load(find_series(REPO).at(10))
    assert hub.counted("GET .*/tokenizer.json$") == 1


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_page_in_place_of_weights_is_named(hub, body):
    hub.faults.append(Fault(WEIGHTS, times=99, body=body))
    with pytest.raises(Unavailable, match="org/mini@step10 in 3 tries .*should be of size"):
        load(find_series(REPO).at(10))


def test_a_pinned_branch_is_asked_for_anew(hub):
    before = identity_of(find_series(f"{REPO}@main").checkpoints[0])
    path = hub.repositories[REPO]["main"] / "config.json"
    path.write_text(path.read_text() + " ")
    assert identity_of(find_series(f"{REPO}@main").checkpoints[0]) != before


def test_a_pinned_commit_needs_no_listing_of_revisions(hub):
    commit = commit_of(hub.repositories[REPO]["step10"])
    assert load(find_series(f"{REPO}@{commit}").checkpoints[0]).n_layers == 3
    assert hub.counted(REFS) == 0


def test_a_pinned_revision_that_is_gone_is_refused(hub):
    with pytest.raises(NotFound, match="org/mini has no revision 'step11'"):
        find_series(f"{REPO}@step11")


def test_a_name_of_two_commits_is_left_out(hub):
    hub.tags = {"step10": "a" * 40, "step100": commit_of(hub.repositories[REPO]["step100"])}
    series = find_series(REPO)
    assert [checkpoint.step for checkpoint in series.select("all")] == [0, 1, 100]
    (left,) = series.left_out
    assert (left.revision, "a branch and a tag" in left.reason) == ("step10", True)


@pytest.mark.parametrize(
    ("passage", "replacement"),
    [("tags.get(name, branches[name]) != branches[name]", "False"), ("git_digest_of(path) == self.blob", "True")],
)
def test_a_mutant_takes_other_content(hub, tmp_path, passage, replacement):
    hub.tags = {"step10": "a" * 40}
    (tmp_path / "file").write_text("other")
    listed = {"path": "file", "size": 5, "oid": "b" * 40}
    with mutant(hub_module, passage, replacement) as changed:
        taken = [
            "step10" in of.list_revisions(REPO).commits or of.HubFile.from_entry(listed).has_content(tmp_path / "file")
            for of in (hub_module, changed)
        ]
    assert taken == [False, True]


def test_random_weights_are_of_a_revision_that_has_a_configuration(hub):
    for path in hub.repositories[REPO]["main"].iterdir():
        path.unlink()
    (hub.repositories[REPO]["main"] / "README.md").write_text("card")
    series = find_series(REPO)
    assert load(series.random_init).n_layers == 3
    assert identity_of(series.random_init).startswith(f"{REPO}@{commit_of(hub.repositories[REPO]['step0'])}")


def test_a_borrowed_tokenizer_is_read_from_the_top(hub):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (hub.repositories[REPO]["step10"] / name).unlink()
    folder = hub.repositories[REPO]["main"] / "widely" / "other"
    folder.mkdir(parents=True)
    (folder / "spiece.model").write_bytes(b"of something else")
    series = find_series(REPO)
    assert load(series.at(10)).tokenizer.vocab_size == load(series.at(100)).tokenizer.vocab_size
    assert hub.counted("spiece.model$") == 0


def test_a_repository_of_gguf_files_says_how_to_use_one(hub):
    for directory in hub.repositories[REPO].values():
        (directory / "config.json").unlink()
        (directory / "mini.Q8_0.gguf").write_bytes(b"GGUF")
    with pytest.raises(NotFound, match=r"`hf download org/mini mini.Q8_0.gguf --local-dir .`, and .*./mini.Q8_0.gguf"):
        load(find_series(REPO).at(10))


def test_an_adapter_on_the_hub_is_refused(hub):
    (hub.repositories[REPO]["step10"] / "adapter_config.json").write_text("{}")
    (hub.repositories[REPO]["step100"] / "adapter_config.json").write_text("{}")
    (hub.repositories[REPO]["step100"] / "config.json").unlink()
    with pytest.raises(InvalidInput, match="org/mini@step10 holds a PEFT adapter"):
        load(find_series(REPO).at(10))
    with pytest.raises(NotFound, match="org/mini@step100 holds a PEFT adapter and no model; merge it into its model"):
        load(find_series(REPO).at(100))


@pytest.mark.parametrize("revision", ["step1", "step10/x", "s" * 300 + "-step7"])
def test_a_name_that_no_file_can_have_is_read(hub, revision):
    load(find_series(REPO).at(10))
    hub.repositories[REPO][revision] = hub.repositories[REPO]["step100"]
    assert load(find_series(f"{REPO}@{revision}").checkpoints[0]).n_layers == 3
