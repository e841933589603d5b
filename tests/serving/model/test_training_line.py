"""A training line: stages in several repositories become one series, in the order of its file."""

import shutil

import pytest

from registry.errors import InvalidInput, Mismatch, TrustTraceError
from serving.model.audit import audit_series, render_audit
from serving.model.sources import find_series
from serving.served_model import find_checkpoint
from serving.settings import Settings
from tests.conftest import tiny_llama

STAGES = """
[[stages]]
name = "base"
model = "mini"
checkpoints = "10,100"

[[stages]]
name = "sft"
model = "answers"

[[stages]]
name = "dpo"
model = "preferences"
"""


@pytest.fixture
def line(series_directory, tmp_path, word_tokenizer):
    """The path of a line of three stages, whose directories lie beside it."""
    shutil.copytree(series_directory, tmp_path / "mini")
    for seed, name in ((5, "answers"), (6, "preferences")):
        tiny_llama(seed).save_pretrained(tmp_path / name)
        word_tokenizer.save_pretrained(tmp_path / name)
    return write(tmp_path, STAGES)


def write(directory, text, name="olmo.toml"):
    (directory / name).write_text(text)
    return directory / name


def test_stages_are_one_series_in_the_order_of_the_file(line):
    series = find_series(f"@{line}")
    assert series.model == "olmo"
    labels = ["base step 10", "base step 100", "sft", "dpo"]
    assert [checkpoint.label for checkpoint in series] == labels
    assert [checkpoint.label for checkpoint in series.select("all")] == labels
    assert [checkpoint.label for checkpoint in series.select("log:12")] == labels
    assert [checkpoint.label for checkpoint in series.select("log:3")] == ["base step 10", "sft", "dpo"]
    assert [checkpoint.label for checkpoint in series.select("base:last,sft")] == ["base step 100", "sft"]
    assert series.select("last")[0].label == "dpo"
    assert series.random_init.repo == series.checkpoints[0].repo
    audit = audit_series(series, series.select("all"))
    assert "left out: base: 1 of 3 checkpoints of" in render_audit(audit)
    assert "not chosen in olmo.toml" in render_audit(audit)


def test_a_line_has_the_name_that_is_given_first(line, tmp_path):
    named = write(tmp_path, f'name = "OLMo 2"\n{STAGES}')
    assert find_series(f"@{named}").model == "olmo-2"
    assert find_series(f"mine=@{named}").model == "mine"


def test_the_last_stage_is_served(line):
    assert find_checkpoint(Settings(model=f"@{line}")).label == "dpo"
    assert find_checkpoint(Settings(model=f"@{line}", checkpoint="sft")).label == "sft"


def test_stages_of_a_series_keep_their_names(line, series_directory, tmp_path):
    for revision in ("stage1-step10-tokens1B", "stage2-ingredient1-step5-tokens1B"):
        shutil.copytree(series_directory / "step_000010", tmp_path / "staged" / revision)
    staged = STAGES.replace('"mini"', '"staged"').replace('"10,100"', '"stage1:last,stage2"')
    series = find_series(f"@{write(tmp_path, staged)}")
    assert [checkpoint.line for checkpoint in series] == ["base-stage1", "base-stage2-ingredient1", "sft", "dpo"]


def test_a_step_of_two_stages_is_refused(line, tmp_path):
    twice = STAGES.replace('model = "answers"', 'model = "mini"\ncheckpoints = "100"')
    series = find_series(f"@{write(tmp_path, twice)}")
    with pytest.raises(InvalidInput, match=r"step 100 of olmo is in base and sft; .* such as base:100"):
        series.select("100")
    assert series.select("base:100")[0].label == "base step 100"


def test_stages_of_different_shapes_are_refused(line, tmp_path, word_tokenizer):
    network = tiny_llama()
    config = type(network.config)(**{**network.config.to_dict(), "num_hidden_layers": 2})
    type(network)(config).save_pretrained(tmp_path / "preferences")
    series = find_series(f"@{line}")
    with pytest.raises(Mismatch, match=r"different shapes \(.*3 layers of 16; .*2 layers of 16\)"):
        audit_series(series, series.select("all"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[stages", r"olmo.toml is no TOML \("),
        ('name = "x"', r"olmo.toml has no stages, so no checkpoints; write \[\[stages\]\]"),
        ("stages = []", "has no stages"),
        ("stages = 3", "has no stages"),
        (f'seed = 3\n{STAGES}', "unknown key of olmo.toml 'seed'; known: name, stages"),
        (f"name = 3\n{STAGES}", "`name` of .* is 3; give a text"),
        (STAGES.replace("checkpoints", "checkpoint"), "unknown key of a stage of olmo.toml 'checkpoint'; did you mean"),
        (STAGES.replace('name = "sft"', ""), "`name` of a stage of .* is None; give a text"),
        (STAGES.replace('"10,100"', "10"), "`checkpoints` of a stage of .* is 10; give a text"),
        (STAGES.replace('"sft"', '"base"'), "has two stages of the name 'base'"),
        (STAGES.replace('"sft"', '"last"'), "stage 'last' of .* is no name that checkpoints can be selected by"),
        (STAGES.replace('"sft"', '"s,f"'), "stage 's,f' of .* is no name"),
        (STAGES.replace('"10,100"', '"7"'), "unknown checkpoint of mini '7'"),
        (STAGES.replace('"10,100"', '"init"'), "stage 'base' of olmo.toml selects 'init'; leave init out"),
        (STAGES.replace('"answers"', '"@olmo.toml"'), "names another line, @olmo.toml; list its stages instead"),
        (STAGES.replace('"answers"', '"nowhere"'), "unknown model 'nowhere'"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_one_sentence(line, tmp_path, text, message):
    with pytest.raises(TrustTraceError, match=message) as caught:
        find_series(f"@{write(tmp_path, text)}")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(TrustTraceError, match=r"there is no file 'line.toml'; `model` '@line.toml' names a TOML"):
        find_series("@line.toml")
