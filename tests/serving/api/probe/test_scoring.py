"""Readings of texts, and of answers, whose prompt is known."""

import numpy as np

from serving.api.probe.scoring import readings_of
from serving.steering.monitor import RunningReadings
from tests.probe_qualities import GOOD
from tests.serving.engine.small_models import served_vector


def test_the_first_token_is_in_no_window_but_its_own():
    probe = served_vector("toxicity", 1, probe=1, window=3, quality=GOOD).probe
    states = np.random.default_rng(0).standard_normal((9, 32)).astype(np.float32)
    states[0] *= 100  # as models have it that attend to the first token whatever it is
    read = readings_of(probe, probe.logits(states))
    for token in range(9):
        window = states[token : token + 1] if token == 0 else states[max(1, token - 2) : token + 1]
        np.testing.assert_allclose(read[token], probe.probability(window.mean(axis=0)[None])[0], atol=1e-6)
    assert len(readings_of(probe, probe.logits(states[:1]))) == 1


def test_a_probe_of_statements_reads_each_token_by_itself():
    probe = served_vector("toxicity", 1, probe=1).probe
    states = np.random.default_rng(0).standard_normal((5, 32)).astype(np.float32)
    np.testing.assert_array_equal(readings_of(probe, probe.logits(states)), probe.probability(states))


def test_an_answer_is_read_as_its_monitor_does():
    probe = served_vector("toxicity", 1, probe=1, window=3, quality=GOOD).probe
    logits = probe.logits(np.random.default_rng(0).standard_normal((9, 32)).astype(np.float32))
    monitor = RunningReadings([probe])
    monitored = [monitor.add([logit])[0] for logit in logits[3:].tolist()]  # from the prompt's last token on
    assert monitored[0] is None
    np.testing.assert_allclose(readings_of(probe, logits, begin=4), monitored[1:], atol=1e-6)
