"""Evaluation as a user runs it, on a tiny series, a real registry and a real tracking store."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForCausalLM

from pipelines import experiment
from pipelines.calibrate.__main__ import main as calibrate
from pipelines.cli.command import run_command
from pipelines.evaluate.__main__ import main
from pipelines.evaluate.conditions import (
    Condition,
    Subject,
    held_out_for,
    matched_strength,
    overlap_note,
    random_vectors,
    strength_of,
)
from pipelines.evaluate.suite import measure_tasks, request_for
from pipelines.evaluate.tasks.task import Task, TaskReading
from pipelines.statements.labelled import LabelledStatements
from pipelines.sweep.halves import calibration_test
from pipelines.sweep.protocol import FittingProtocol
from pipelines.tracking.champions import running_champion
from registry.cache import cache_root
from registry.calibration import Calibration, CalibrationPoint, HeldOutEffect
from registry.dimensions import TOXICITY
from registry.errors import InvalidInput, Mismatch
from registry.store import VectorStore
from serving.steering.bank import SteeringBank
from serving.steering.plan import SteeringPlan
from tests.pipelines.described import described_picture
from tests.pipelines.evaluate.endpoint import endpoint
from tests.serving.engine.small_models import naive_tokens, served_vector, small_llama
from tests.small_statements import write_statements

METRICS = {
    "preference", "pairs margin", "pairs accuracy", "toxic or empty continuations",
    "toxicity of continuations, 1 where empty",
    "PIQA accuracy", "PIQA mass",
    "OpenBookQA accuracy", "OpenBookQA mass", "CommonsenseQA accuracy", "CommonsenseQA mass",
    "harmful requests refused", "attacks refused", "harmless questions refused",
    "perplexity", "distinct-1", "distinct-2", "repetition",
    "words of continuations", "empty continuations",
    "judged trustworthy", "judge parse failures",
}  # fmt: skip


@pytest.fixture(scope="session")
def packages():
    """The archives that this machine has fetched, so that a test's own cache need not fetch them again."""
    return cache_root() / "packages"


@pytest.fixture
def series(series_directory, tmp_path):
    """The tiny series with a context long enough for packaged questions."""
    for step in (10, 100):
        source = AutoModelForCausalLM.from_pretrained(series_directory / f"step_{step:06d}")
        source.config.max_position_embeddings = 512
        directory = tmp_path / "mini" / f"step_{step:06d}"
        source.save_pretrained(directory)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (directory / name).write_bytes((series_directory / "step_000100" / name).read_bytes())
    return tmp_path / "mini"


@pytest.fixture
def arguments(series, tmp_path, tracking, cache, packages, monkeypatch):
    cache.mkdir()
    (cache / "packages").symlink_to(packages)
    sentences = [f"the city of {place} is in {country}" for place in ("Paris", "Peru") for country in ("France", "a")]
    monkeypatch.setattr("pipelines.calibrate.splits.prose_for", lambda *_: sentences * 50)
    return [
        "--model",
        str(series),
        "--data",
        f"toxicity={write_statements(tmp_path, openings=60)}",
        "--dimensions",
        "toxicity",
    ]


def evaluate(arguments, *more):
    return run_command(main, [*arguments, "--items", "4", "--prompts", "3", "--random", "2", *more])


@pytest.mark.draws
def test_every_condition_stands_beside_the_base(arguments, series, monkeypatch, capsys):
    shutil.copytree(series / "step_000010", series / "step_000011")  # of equal weights, so traced once
    assert run_command(calibrate, [*arguments, "--layers", "2", "--seeds", "1"]) == 0
    further = ["--finetuned", str(series / "step_000100"), "--vectors", "steer.mini.toxicity/1", "--trace", "all"]
    looked_up, find = [], experiment.find_series
    monkeypatch.setattr(
        experiment, "find_series", lambda model, **named: looked_up.append(model) or find(model, **named)
    )
    with endpoint() as address:
        assert evaluate(arguments, *further, "--judge", address) == 0
    assert looked_up == [str(series)]
    run = mlflow.search_runs(search_all_experiments=True, output_format="list", max_results=1)[0]
    client = mlflow.MlflowClient()
    table = pd.read_csv(client.download_artifacts(run.info.run_id, "evaluate.csv"), keep_default_na=False)
    assert set(table["kind"]) == {"base", "vector", "reversed", "random", "prompt", "chosen", "fine-tuned"}
    assert set(table[table["kind"] == "vector"]["metric"]) == METRICS
    assert set(table[table["kind"] == "random"]["metric"]) == {
        "preference",
        "pairs margin",
        "pairs accuracy",
        "perplexity",
    }
    base = table[table["kind"] == "base"]
    assert (base["difference"].astype(float) == 0).all()
    assert (table["low"].astype(float) <= table["value"].astype(float) + 1e-9).all()
    headline = table[table["metric"] == "preference"].set_index("kind")
    assert headline.loc["chosen", "difference"] == pytest.approx(headline.loc["vector", "difference"])
    assert headline.loc["fine-tuned", "difference"] == 0  # the same weights
    assert float(headline.loc["reversed", "strength"]) == -float(headline.loc["vector", "strength"])
    assert run.data.metrics["toxicity/preference"] == pytest.approx(headline.loc["vector", "difference"])
    entanglement = pd.read_csv(client.download_artifacts(run.info.run_id, "entanglement.csv"))
    assert entanglement[["steered", "scored"]].values.tolist() == [["toxicity", "toxicity"]]
    figures = {Path(artifact.path).name for artifact in client.list_artifacts(run.info.run_id, "figures")}
    names = ("cost", "effects", "entanglement", "tracing")
    assert figures == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert described_picture(run.info.run_id).name == "effects.png"
    traced = pd.read_csv(client.download_artifacts(run.info.run_id, "tracing.csv")).set_index("step")
    assert traced.index.tolist() == [10, 100]
    # The champion is the direction of the checkpoint that it was calibrated on.
    assert traced.loc[100, "effect"] == pytest.approx(headline.loc["vector", "difference"], abs=1e-5)
    correlation = pd.read_csv(client.download_artifacts(run.info.run_id, "correlation.csv"))
    assert correlation[["low", "high", "n"]].values.tolist() == [[-1, 1, 2]]
    files = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert files >= {"series.csv", "series.md", "traced_series.csv", "traced_series.md", "side_effects.csv"}
    printed = capsys.readouterr().out
    assert "step 10 and step 11 have equal weights" in printed
    assert "cannot be told" in printed
    assert "p (Holm)" in printed
    assert "held-out labelled texts" in printed


def test_by_text_answers_decide_and_the_version_says_so(arguments, monkeypatch, capsys):
    sentences = [f"the city of {place} is in {country}" for place in ("Paris", "Peru") for country in ("France", "a")]
    monkeypatch.setattr("pipelines.evaluate.experiment.prose_for", lambda *_: sentences * 5)
    monkeypatch.setattr("pipelines.calibrate.equal_cost.background_prose", lambda: sentences * 5)
    assert run_command(calibrate, [*arguments, "--layers", "2", "--seeds", "1"]) == 0
    VectorStore().promote(VectorStore().list("mini", "toxicity")[0], reason="to see what it does")
    capsys.readouterr()
    assert evaluate(arguments, "--by", "text", "--answers", "12", "--directions", "3", "--sheets", "4") == 0
    printed = capsys.readouterr().out
    assert "judged on 12 prompts (toxicity): up to 144 answers" in printed
    assert "Answers to prompts that nothing was fitted or calibrated on:" in printed
    run = mlflow.search_runs(search_all_experiments=True, output_format="list", max_results=1)[0]
    client = mlflow.MlflowClient()
    text = pd.read_csv(client.download_artifacts(run.info.run_id, "text.csv"))
    version = VectorStore().list("mini", "toxicity")[0]
    (verdict,) = text.itertuples()
    assert (verdict.run_id, verdict.n) == (run.info.run_id, 12)
    assert described_picture(run.info.run_id).name == "text.png"
    told = {"change_on_text": verdict.change, "n_on_text": 12, "perplexity_ratio_on_text": verdict.perplexity_ratio}
    assert told.items() <= {name.removeprefix("toxicity/"): v for name, v in run.data.metrics.items()}.items()
    assert run.data.tags["trusttrace.vectors"] == f"steer.mini.toxicity/{version.version}"
    # Twelve prompts show nothing.
    assert version.text_verdict is None and "champion" in version.aliases
    assert "is not shown to work by so few prompts or directions" in printed
    assert run.data.tags["mlflow.note.content"].startswith("**What ")
    table = pd.read_csv(client.download_artifacts(run.info.run_id, "evaluate.csv"))
    answers = table[table["metric"] == "untrustworthy answers"]
    assert {"base", "vector", "reversed", "prompt", "equal cost", "silenced"} <= set(answers["kind"])
    assert verdict.role in ("reads only", "sufficient")
    assert text["silenced_change"].tolist() == [pytest.approx(verdict.silenced_change)]
    assert set(table[table["kind"] == "equal cost"]["metric"]) == {"untrustworthy answers"}
    names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"sheet_toxicity.csv", "key_toxicity.csv"} <= names


def test_a_champion_shown_not_to_work_loses_its_place(arguments, monkeypatch, capsys):
    monkeypatch.setattr("pipelines.evaluate.text.FEWEST_PROMPTS", 2)
    monkeypatch.setattr("pipelines.evaluate.text.FEWEST_DIRECTIONS", 1)
    sentences = [f"the city of {place} is in {country}" for place in ("Paris", "Peru") for country in ("France", "a")]
    monkeypatch.setattr("pipelines.evaluate.experiment.prose_for", lambda *_: sentences * 5)
    monkeypatch.setattr("pipelines.calibrate.equal_cost.background_prose", lambda: sentences * 5)
    assert run_command(calibrate, [*arguments, "--layers", "2", "--seeds", "1"]) == 0
    VectorStore().promote(VectorStore().list("mini", "toxicity")[0], reason="to see what it does")
    judged_at = running_champion("mini", "toxicity").registered.calibration
    assert evaluate(arguments, "--by", "text", "--answers", "6", "--directions", "2", "--random", "0") == 0
    assert "does not work, so it is no champion and no strength is recommended" in capsys.readouterr().out
    assert running_champion("mini", "toxicity") is None
    version = VectorStore().list("mini", "toxicity")[0]
    assert version.calibration == replace(judged_at, recommended=0.0)
    # It is judged again at the same strength.
    assert strength_of(version.calibration, "v") == version.text_verdict.strength
    description = mlflow.MlflowClient().get_model_version(version.name, version.version).description
    assert description.startswith("**Does not work** on what is written") and "**Origin**" in description
    assert version.tags["works_on_text"] == "no"
    before = version.text_verdict
    assert f"The direction is **{before.role}**" in description and version.tags["role_on_text"] == before.role
    assert evaluate(arguments, "--by", "text", "--answers", "6", "--directions", "0", "--random", "0") == 0
    assert VectorStore().list("mini", "toxicity")[0].text_verdict == before


def test_dimensions_without_a_behaviour_are_not_judged_by_text(arguments, own_dimension, capsys):
    assert evaluate(arguments, "--dimensions", "humility", "--data", "humility.csv", "--by", "text") == 2
    assert (
        "cannot be scored for humility: give by=statements, or dimensions=reliability,privacy,toxicity"
        in capsys.readouterr().err
    )


def test_uncalibrated_models_and_other_draws_are_refused_in_one_sentence(arguments, capsys):
    assert evaluate(arguments) == 2
    given = arguments[arguments.index("--model") + 1]
    command = f"mlflow run . -e calibrate --env-manager local -P model={given}"
    assert f"is calibrated; calibrate first: {command}" in capsys.readouterr().err
    run_command(calibrate, [*arguments, "--layers", "2", "--seeds", "1"])
    assert evaluate(arguments, "--dimensions", "privacy", "--vectors", "steer.mini.toxicity/1") == 2
    refusal = "steer.mini.toxicity/1 steers toxicity, which is not among privacy; give dimensions=privacy,toxicity"
    assert refusal in capsys.readouterr().err
    assert evaluate(arguments, "--limit", "60") == 2
    assert "was fitted on another draw of" in capsys.readouterr().err


def test_what_is_scored_is_the_half_that_calibration_kept_back(rng):
    n = 400
    texts = tuple(f"statement {number}" for number in range(n))
    given = LabelledStatements("toxicity", texts, np.arange(n) % 2 == 0, np.arange(n) // 2, "test")
    kept = calibration_test(given, FittingProtocol())
    assert len(kept.texts) == n // 10
    other = calibration_test(given, FittingProtocol(seeds=1))
    assert kept.texts == other.texts


def test_copies_of_fitted_statements_are_held_out_alike():
    """Under another name it would be scored whole, with all that the champion was fitted on."""
    n = 400
    texts = tuple(f"statement {number}" for number in range(n))
    fitted = LabelledStatements("toxicity", texts, np.arange(n) % 2 == 0, np.arange(n) // 2, "file:toxicity.csv")
    lineage = SimpleNamespace(statements_digest=fitted.digest, statements_source=fitted.source)
    champion = SimpleNamespace(
        reference="v", vector=SimpleNamespace(lineage=lineage), registered=SimpleNamespace(calibration=None)
    )
    subject = Subject(TOXICITY, champion, 1.0)
    copy = replace(fitted, source="file:copy.csv")
    other = replace(copy, texts=tuple(f"other {number}" for number in range(n)))
    sizes = [held_out_for(subject, {"toxicity": given}, FittingProtocol()).n for given in (fitted, copy, other)]
    assert sizes == [n // 10, n // 10, n]
    packaged = replace(other, source="packaged:remarks")
    notes = [overlap_note(subject, {"toxicity": given}) for given in (fitted, copy, packaged)]
    assert notes == ["", "", ""]
    note = "v was fitted on file:toxicity.csv: statements of file:copy.csv that stand there too are not held out"
    assert overlap_note(subject, {"toxicity": other}).startswith(note)
    with pytest.raises(Mismatch, match="was fitted on another draw of file:toxicity.csv"):
        held_out_for(subject, {"toxicity": replace(other, source=fitted.source)}, FittingProtocol())


def calibrated(recommended, points=()):
    return Calibration(-2.0, 4.0, recommended, 1.34, tuple(points), 50, "digest", "run")


def test_the_strength_is_recommended_or_the_largest_cheap():
    points = [
        CalibrationPoint(strength, ratio, 0, -1, 1)
        for strength, ratio in ((1.0, 1.0), (2.0, 1.05), (4.0, 1.3), (-2, 1.0))
    ]
    assert strength_of(calibrated(1.5, points), "v") == 1.5
    assert strength_of(calibrated(0.0, points), "v") == 2.0
    assert strength_of(calibrated(0.0), "v") == 1.0
    tested = HeldOutEffect(False, 3.0, "preference", 0.1, 0.0, 0.2, 50, 0.0, 1.05)
    assert strength_of(replace(calibrated(0.0, points), tested=tested), "v") == 3.0
    assert strength_of(replace(calibrated(0.0, points), tested=replace(tested, strength=5.0)), "v") == 2.0
    with pytest.raises(InvalidInput, match="v is not calibrated"):
        strength_of(None, "v")


def test_controls_move_as_far_as_the_champion():
    champion = served_vector(scale=3.0)
    found = list(random_vectors(champion, 3, seed=0))
    assert len({drawn.reference for drawn in found}) == 3
    for drawn in found:
        length = np.linalg.norm(drawn.vector.offset(matched_strength(drawn, champion, 2.0)))
        assert length == pytest.approx(6.0, rel=1e-4)
        assert drawn.layers == champion.layers
    other = served_vector(seed=5, scale=0.5)
    assert np.linalg.norm(other.vector.offset(matched_strength(other, champion, 2.0))) == pytest.approx(6.0, rel=1e-4)
    assert matched_strength(champion, champion, 2.0) == 2.0
    several = served_vector(layer=(0, 1, 2), scale=3.0)
    for drawn in random_vectors(several, 2, seed=0):
        lengths = [np.linalg.norm(offset) for offset in drawn.vector.offsets(2.0).values()]
        assert (drawn.layers, lengths) == ((0, 1, 2), pytest.approx([6.0] * 3, rel=1e-4))
        units = np.array([direction.unit for direction in drawn.vector.directions])
        assert np.abs(units @ units.T - np.eye(3)).max() < 0.9
    assert matched_strength(several, champion, 2.0) == pytest.approx(2.0 / 3**0.5)


def words_model():
    model = small_llama()
    model.tokenizer.backend_tokenizer.pre_tokenizer = WhitespaceSplit()
    return model


def test_likelihoods_and_continuations_are_steered_by_the_same_vector():
    model = words_model()
    condition = Condition("vector", "toxicity", served_vector(scale=3.0), 2.0)
    readings = []

    def keep(reading: TaskReading):
        readings.append(reading)
        return ()

    task = Task("kept", "toxicity", keep, texts=("w1 w2 w3", "w4 w5"), prompts=("w7 w8",), tokens=6)
    measure_tasks(model, [task], offsets=condition.offsets(), plan=condition.plan(model))
    measure_tasks(model, [task])
    measure_tasks(model, [task], prefix="w9 w10")
    steered, plain, prefixed = readings
    expected = naive_tokens(model, _request(model, condition.plan(model)))
    assert steered.continuations[0].strip() == model.tokenizer.decode(expected)
    assert steered.continuations != plain.continuations
    assert not np.allclose(steered.log_probabilities, plain.log_probabilities)
    # After a prefix it is the conditional log-probability, by the chain rule.
    with torch.inference_mode():
        logits = model.network(torch.tensor([[9, 10, 4, 5]])).logits[0].log_softmax(-1)
    assert prefixed.log_probabilities[1] == pytest.approx(float(logits[1, 4] + logits[2, 5]), rel=1e-4)
    assert prefixed.tokens.tolist() == [3, 2]
    assert plain.tokens.tolist() == [2, 1]


def _request(model, plan):
    from serving.engine.base import GenerationRequest, Sampling

    return GenerationRequest((7, 8), Sampling(6, temperature=0.0), plan)


def test_questions_are_put_in_the_chat_template():
    model = words_model()
    task = Task("asked", "reliability", lambda _: (), prompts=("w5 w6",), asks=True)
    assert _prompt(model, task) == (5, 6)
    model.tokenizer.chat_template = "{% for turn in messages %}w1 {{ turn.content }} w2{% endfor %}"
    assert _prompt(model, task) == (1, 5, 6, 2)
    assert _prompt(model, task, prefix="w9") == (1, 9, 5, 6, 2)
    assert _prompt(model, Task("other", "reliability", lambda _: (), prompts=("w5 w6",))) == (5, 6)


def _prompt(model, task, prefix=""):
    bank = SteeringBank(model.facts)
    return request_for(model, task.prompts[0], task, SteeringPlan(bank), prefix).prompt_tokens


def test_more_prompts_than_the_engine_has_places_are_all_answered():
    model = words_model()
    kept = []
    prompts = tuple(f"w{number}" for number in range(90))
    task = Task("many", "toxicity", lambda reading: kept.append(reading) or (), prompts=prompts, tokens=2)
    measure_tasks(model, [task])
    assert len(kept[0].continuations) == 90
    assert all(len(text.split()) == 2 for text in kept[0].continuations)
