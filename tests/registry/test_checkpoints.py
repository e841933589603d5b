import pytest

from registry.checkpoints import Checkpoint, CheckpointSeries, model_short_name, parse_step
from registry.errors import InvalidInput, UnknownName


def series(*steps):
    return CheckpointSeries("demo", tuple(Checkpoint("demo", "org/demo", f"step{step}", step) for step in steps))


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
        ("main", None),
        ("v1.0", None),
        ("refs/convert/parquet", None),
    ],
)
def test_steps_are_read_from_the_names_that_model_series_use(revision, step):
    assert parse_step(revision) == step


def test_a_series_is_in_order_of_step():
    assert [one.step for one in series(512, 0, 64)] == [0, 64, 512]


def test_two_checkpoints_of_one_step_are_refused():
    with pytest.raises(InvalidInput, match="same step"):
        series(1, 1)


def test_selection_by_word_step_and_revision():
    some = series(0, 1, 8, 64, 512)
    assert [one.step for one in some.select("all")] == [0, 1, 8, 64, 512]
    assert [one.step for one in some.select("512, 0")] == [0, 512]
    assert [one.step for one in some.select("first,step64,last")] == [0, 64, 512]


def test_log_spacing_keeps_first_and_last_and_the_count():
    some = series(*range(0, 1001, 10))
    steps = [one.step for one in some.select("log:6")]
    assert steps[0] == 0
    assert steps[-1] == 1000
    assert len(steps) == 6
    assert steps[1] < 100 < steps[-2]


def test_asking_for_more_than_there_are_gives_all():
    assert len(series(0, 1, 2).select("log:12")) == 3


def test_init_is_the_random_initialisation_and_comes_first():
    chosen = series(0, 1).select("all,init")
    assert chosen[0].is_random_init
    assert chosen[0].step == -1
    assert chosen[0].label == "random init"


def test_an_unknown_step_names_those_that_exist():
    with pytest.raises(UnknownName, match=r"'7'.*known: 0, 1, 8"):
        series(0, 1, 8).select("7")


@pytest.mark.parametrize("spec", ["", " , ", "log:x", "log:0"])
def test_a_malformed_selection_is_refused(spec):
    with pytest.raises(InvalidInput):
        series(0, 1).select(spec)


def test_short_names_fit_the_registry():
    assert model_short_name("EleutherAI/pythia-70m") == "pythia-70m"
    assert model_short_name("/home/me/My Models:v2/") == "my-models-v2"
    with pytest.raises(InvalidInput):
        model_short_name("org/::")
