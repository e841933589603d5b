import pytest

from registry.checkpoints import Checkpoint, CheckpointSeries
from registry.errors import InvalidInput, UnknownName
from registry.named_series import series_of


def series(*steps):
    return CheckpointSeries("demo", tuple(Checkpoint("demo", "org/demo", f"step{step}", step) for step in steps))


def test_a_series_is_in_order_of_step():
    assert [checkpoint.step for checkpoint in series(512, 0, 64)] == [0, 64, 512]


@pytest.mark.parametrize(
    "names",
    [["step_000512", "step512", "step600"], ["stage2-ingredient1-step8", "stage2-ingredient1-step_8"], ["500", "0500"]],
)
def test_two_names_of_one_step_are_refused_by_name(names):
    with pytest.raises(InvalidInput, match=f"'{names[0]}' and '{names[1]}'.*are both"):
        series_of("demo", "org/demo", names)


@pytest.mark.parametrize(
    "names", [["seed1-step1000", "seed2-step1000"], ["seed1-step1000", "seed2-step2000"], ["500", "step1000"]]
)
def test_runs_that_names_do_not_order_are_refused(names):
    with pytest.raises(InvalidInput, match=f"'{names[0]}' and '{names[1]}'"):
        series_of("demo", "org/demo", names)


def test_names_without_a_step_are_left_out_by_name():
    with pytest.raises(InvalidInput, match="names that tell no step: epoch_1, epoch_2, epoch_3"):
        series_of("demo", "/demo", ["epoch_1", "epoch_2", "epoch_3"])
    one = series_of("demo", "/demo", ["final"])
    assert [checkpoint.revision for checkpoint in one] == ["final"]
    some = series_of("demo", "org/demo", ["step1", "step2", "step3", "it-SFT", "pr-step7"])
    assert [checkpoint.step for checkpoint in some] == [1, 2, 3]
    assert [name.revision for name in some.left_out] == ["it-SFT", "pr-step7"]


OLMO = (
    "stage1-step1000-tokens5B", "stage1-step2000-tokens9B", "stage2-ingredient1-step1000-tokens5B",
    "stage2-ingredient2-step1000-tokens5B", "stage2-ingredient1-step2000-tokens9B", "main",
)  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "chosen"),
    [
        ("all", OLMO[:2]),
        ("log:12", OLMO[:2]),
        ("first", OLMO[:1]),
        ("last", OLMO[1:2]),
        ("1000", OLMO[:1]),
        ("main", OLMO[5:]),
        ("stage1-step1000-tokens5B", OLMO[:1]),
        ("stage1:log:12,stage2:last,main", (*OLMO[:2], OLMO[4], OLMO[3], OLMO[5])),
        ("stage2", (OLMO[2], OLMO[4], OLMO[3])),
        ("stage2-ingredient2:first", OLMO[3:4]),
        ("main,stage2:1000", (OLMO[2], OLMO[3], OLMO[5])),
    ],
)
def test_a_selection_is_of_the_first_stage_by_default(spec, chosen):
    series = series_of("olmo", "allenai/olmo", OLMO)
    assert len(series) == len(OLMO)
    assert [checkpoint.revision for checkpoint in series.select(spec)] == list(chosen)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("stage3:last", "'stage3'.*stage1, stage2-ingredient1"),
        ("stage2:7", "stage2:7.*known: all, first, last, log:N, 1000, 2000"),
        ("7", "known: all, first, last, log:N, 1000, 2000, stage2-ingredient1, stage2-ingredient2, main"),
    ],
)
def test_an_unknown_stage_or_step_names_those_that_exist(spec, message):
    with pytest.raises(UnknownName, match=message):
        series_of("olmo", "allenai/olmo", OLMO).select(spec)


def test_a_series_without_stages_says_so():
    with pytest.raises(UnknownName, match=r"^mini has no stages, so 'stage2:last' names none.*steps such as 1,2"):
        series_of("mini", "org/mini", ["step1", "step2"]).select("stage2:last")


def test_labels_are_unique_in_a_series_of_several_stages():
    series = series_of("olmo", "allenai/olmo", OLMO)
    labels = [
        "stage1 step 1000",
        "stage1 step 2000",
        "stage2-ingredient1 step 1000",
        "stage2-ingredient1 step 2000",
        "stage2-ingredient2 step 1000",
        "main",
    ]
    assert [checkpoint.label for checkpoint in series] == labels
    assert [checkpoint.caption for checkpoint in series] == [label.replace("000", ",000") for label in labels]


@pytest.mark.parametrize(
    ("names", "specifications"),
    [
        (OLMO, ("1000", "last", "stage2-ingredient1:1000", "stage2-ingredient1:last", "stage2-ingredient2", "main")),
        (["step1", "step2", "main"], ("1", "last", "main")),
        (["final"], ("last",)),
    ],
)
def test_every_checkpoint_is_selected_by_its_shortest_specification(names, specifications):
    series = series_of("olmo", "allenai/olmo", names)
    assert tuple(series.specification_of(checkpoint) for checkpoint in series) == specifications
    assert all(series.select(series.specification_of(checkpoint)) == (checkpoint,) for checkpoint in series)


def test_named_stages_come_after_numbered_ones_in_natural_order():
    names = ["lc-32k-to-64k-step-4000", "main", "stage10-step-1", "stage2-step-9", "lc-4k-to-32k-step-4000"]
    assert [checkpoint.revision for checkpoint in series_of("smol", "org/smol", names)] == [
        "stage2-step-9",
        "stage10-step-1",
        "lc-4k-to-32k-step-4000",
        "lc-32k-to-64k-step-4000",
        "main",
    ]


def test_the_model_above_a_trainers_checkpoints_is_the_end():
    series = series_of("out", "/out", ["checkpoint-10", "checkpoint-20", "main"], ends_in_main=True, end_step=25)
    assert [(checkpoint.revision, checkpoint.step) for checkpoint in series.select("all")] == [
        ("checkpoint-10", 10),
        ("checkpoint-20", 20),
        ("main", 25),
    ]
    assert series.select("last") == series.select("main")
    same_step = series_of("out", "/out", ["checkpoint-10", "checkpoint-20", "main"], ends_in_main=True)
    assert [checkpoint.revision for checkpoint in same_step.select("log:2")] == ["checkpoint-10", "main"]


def test_selection_by_word_step_and_revision():
    some = series(0, 1, 8, 64, 512)
    assert [checkpoint.step for checkpoint in some.select("all")] == [0, 1, 8, 64, 512]
    assert [checkpoint.step for checkpoint in some.select("512, 0")] == [0, 512]
    assert [checkpoint.step for checkpoint in some.select("first,step64,last")] == [0, 64, 512]


def test_log_spacing_keeps_first_and_last_and_the_count():
    some = series(*range(0, 1001, 10))
    steps = [checkpoint.step for checkpoint in some.select("log:6")]
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
    with pytest.raises(UnknownName, match=r"'7'.*known: all, first, last, log:N, 0, 1, 8"):
        series(0, 1, 8).select("7")


def test_a_step_with_a_comma_is_explained():
    some = series(1, 100, 1000, 20000)
    with pytest.raises(UnknownName, match="'20,000' names several checkpoints of demo; write the step as 20000"):
        some.select("20,000")
    with pytest.raises(UnknownName, match="'30'.*known: all"):
        some.select("30,000")
    assert [checkpoint.step for checkpoint in some.select("1,100")] == [1, 100]


@pytest.mark.parametrize("spec", ["", " , ", "log:x", "log:0"])
def test_a_malformed_selection_is_refused(spec):
    with pytest.raises(InvalidInput):
        series(0, 1).select(spec)
