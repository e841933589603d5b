"""The manual's example of a dimension of one's own, from its file to a champion, on a tiny random model."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipelines.cli.command import run_command
from pipelines.data.__main__ import main as data
from pipelines.probe.__main__ import main as probe
from registry.store import VectorStore

MANUAL = Path(__file__).parents[2] / "pipelines" / "README.md"


def blocks() -> list[str]:
    """The indented blocks of the manual's section: a script, a declaration, a command, its output."""
    section = MANUAL.read_text(encoding="utf-8").partition("### A dimension of your own\n")[2].partition("\n### ")[0]
    return [textwrap.dedent(block) for block in re.findall(r"(?:^(?: {4}.*)?\n)*^ {4}.*\n", section, re.MULTILINE)]


@pytest.fixture
def example(tmp_path, tracking, cache):
    """The working directory with the example's two files in it."""
    script, declaration, *_ = blocks()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True, env=os.environ | {"PATH": path})
    (tmp_path / "humility.dimension.toml").write_text(declaration)
    return tmp_path


@pytest.fixture
def model(example):
    texts = pd.read_csv(example / "humility.csv")["statement"]
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=400, special_tokens=["<s>"], show_progress=False)
    torch.manual_seed(0)
    network = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            vocab_size=tokenizer.get_vocab_size(),
            tie_word_embeddings=True,
        )
    )
    directory = example / "own-model"
    network.save_pretrained(directory)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, bos_token="<s>", eos_token="<s>").save_pretrained(
        directory
    )
    return directory


def test_the_report_finds_nothing_that_the_text_gives_away(example, capsys):
    assert run_command(data, ["--data", "humility.csv"]) == 0
    printed = capsys.readouterr().out
    assert "## humility · file:humility.csv" in printed
    assert "120 statements, 60 trustworthy (50.0%), in 30 groups; 120 distinct texts with one label" in printed
    assert "warning" not in printed
    assert "next: mlflow run . -e probe --env-manager local -P data=humility.csv" in printed


def test_one_command_makes_a_champion_of_its_own(example, model, capsys):
    _, _, command, output = blocks()
    assert command.strip() == "mlflow run . -e probe --env-manager local -P model=tiny -P data=humility.csv"
    assert "models:/steer.tiny.humility/12" in output
    assert run_command(probe, ["--model", str(model), "--data", "humility.csv", "--seeds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "models:/steer.own-model.humility/1" in printed
    assert printed.rstrip().endswith(
        f"-e calibrate --env-manager local -P model={model} -P data=humility.csv -P seeds=1"
    )
    champion = VectorStore().resolve("steer.own-model.humility@champion")
    vector = VectorStore().load(champion)
    assert vector.dimension == "humility"
    assert vector.lineage.statements_source == "file:humility.csv"


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
@pytest.mark.parametrize("name", ["礼貌", "скромность"])
def test_names_may_be_of_any_script(example, model, name, capsys):
    for ending in (".csv", ".dimension.toml"):
        (example / f"humility{ending}").rename(example / f"{name}{ending}")
    own = model.rename(example / "модель")
    assert run_command(probe, ["--model", str(own), "--data", f"{name}={name}.csv", "--seeds", "1"]) == 0
    assert VectorStore().resolve(f"steer.модель.{name}@champion").version == "1"
