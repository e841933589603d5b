"""Qualities of probes of answers: one that beats its controls, and one that does not."""

from dataclasses import replace

from registry.probe_quality import ProbeQuality

GOOD = ProbeQuality(
    auroc=0.8,
    auroc_low=0.75,
    auroc_high=0.85,
    n_answers=200,
    n_prompts=100,
    at_end=0.9,
    shuffled=0.55,
    words=0.7,
    false_alarms=0.1,
    n_prose=200,
    stop_below=0.2,
    caught=0.6,
    caught_wrongly=0.05,
)
POOR = replace(GOOD, auroc=0.62, auroc_low=0.55, auroc_high=0.69)
