import pytest

from registry.revisions import parse_position, parse_step


@pytest.mark.parametrize(
    ("revision", "step"),
    [
        ("step1000", 1000),
        ("step1000-tokens4B", 1000),
        ("stage1-step1000-tokens3B", 1000),
        ("ckpt_010", 10),
        ("step_000512", 512),
        ("checkpoint-500", 500),
        ("global_step7", 7),
        ("step_1k", 1_000),
        ("step-100K", 100_000),
        ("step_1.5k", 1_500),
        ("step1e3", 1_000),
        ("epoch=0-step=500", 500),
        ("ep1-ba500", 500),
        ("iter_0001000", 1_000),
        ("model_000500", 500),
        ("1000", 1_000),
        ("stage1-step-40000", 40_000),
        ("CrystalCoder_phase2_checkpoint_214387", 214_387),
        ("main", None),
        ("v1.0", None),
        ("refs/convert/parquet", None),
        ("epoch_1", None),
        ("step-1", None),
        ("step1.5", None),
        ("step_1,000", None),
        ("step_1_000", None),
        ("step_12_000_000", None),
        ("step_1000_0001", 1000),
        ("step1000-005", 1000),
        ("step5x", None),
        ("pythia-70m", None),
        ("model_70m", None),
        ("10.49B", None),
    ],
)
def test_steps_are_read_from_the_names_that_model_series_use(revision, step):
    assert parse_step(revision) == step


@pytest.mark.parametrize(
    ("revision", "stage", "ingredient", "tokens"),
    [
        ("step1000-tokens4B", "", None, 4 * 10**9),
        ("stage2-ingredient1-step1000-tokens5B", "stage2", 1, 5 * 10**9),
        ("stage1-step0", "stage1", None, None),
        ("lc-4k-to-32k-step-20000", "lc-4k-to-32k", None, None),
        ("TinyLlama-1.1B-intermediate-step-715k-1.5T", "", None, 1_500 * 10**9),
        ("TinyLlama-1.1B-intermediate-step-50K", "", None, None),
        ("step-955k-token-2T", "", None, 2 * 10**12),
        ("phase3_checkpoint_10", "phase3", None, None),
    ],
)
def test_stage_ingredient_and_tokens_are_read_beside_the_step(revision, stage, ingredient, tokens):
    position = parse_position(revision)
    assert (position.stage, position.ingredient, position.tokens) == (stage, ingredient, tokens)
