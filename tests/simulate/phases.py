"""Phases on curves that have none, and on planted ones: how often a fall is said to be there."""

from collections.abc import Callable, Iterator

import numpy as np

from pipelines.estimators.phases import adjusted, two_phases
from tests.simulate.table import Row

STEPS, LAYERS = 18, 3
_TIME = np.arange(STEPS)
_SATURATING = 1 - np.exp(-_TIME / 3)
Draw = Callable[[np.random.Generator], np.ndarray]


def autoregressive(rng: np.random.Generator, persistence: float, layers: int = LAYERS) -> np.ndarray:
    """Stationary below a persistence of 1, a random walk at 1."""
    values = np.zeros((layers, STEPS))
    values[:, 0] = rng.normal(size=layers) / ((1 - persistence**2) ** 0.5 if persistence < 1 else 1)
    for step in range(1, STEPS):
        values[:, step] = persistence * values[:, step - 1] + rng.normal(size=layers)
    return values


def _drawn(persistence: float) -> Draw:
    return lambda rng: autoregressive(rng, persistence)


def _plateau(persistence: float, layers: int) -> Draw:
    return lambda rng: _SATURATING + 0.1 * np.broadcast_to(autoregressive(rng, persistence, layers), (LAYERS, STEPS))


NULLS: dict[str, Draw] = {
    "white noise": _drawn(0.0),
    "AR(1) .3": _drawn(0.3),
    "AR(1) .5": _drawn(0.5),
    "AR(1) .7": _drawn(0.7),
    "AR(1) .9": _drawn(0.9),
    "random walk": _drawn(1.0),
    "saturating rise, 5 % noise": lambda rng: _SATURATING + 0.05 * rng.normal(size=(LAYERS, STEPS)),
    "rise to a plateau that wanders, AR(1) .9, the same in all layers": _plateau(0.9, 1),
    "rise to a plateau that wanders, random walk": _plateau(1.0, LAYERS),
}
BEYOND: dict[str, Draw] = {
    "increments persist, AR(1) .5": lambda rng: np.cumsum(autoregressive(rng, 0.5), axis=1),
}
"""What eighteen checkpoints cannot tell from a fall."""


def false_alarms(kind: str, trials: int) -> float:
    rng = np.random.default_rng(0)
    draw = (NULLS | BEYOND)[kind]
    return _share([draw(rng) for _ in range(trials)])


def corrected_alarms(tests: int, trials: int) -> float:
    """How often any of ``tests`` unrelated random walks is said to fall, after correction."""
    rng = np.random.default_rng(0)
    alarms = 0
    for seed in range(trials):
        shapes = [two_phases(range(STEPS), autoregressive(rng, 1.0, 1), seed=seed) for _ in range(tests)]
        alarms += min(shape.p_adjusted for shape in adjusted(shapes, seed=seed)) < 0.05
    return alarms / trials


def found_falls(peak: int, fall: float, noise: float, trials: int) -> float:
    """Power for a rise of 1 up to ``peak``, then a steady fall."""
    rng = np.random.default_rng(0)
    shape = np.interp(_TIME, [0, peak, STEPS - 1], [0, 1, 1 - fall])
    return _share([shape + noise * rng.normal(size=(LAYERS, STEPS)) for _ in range(trials)])


def _share(drawn: list[np.ndarray]) -> float:
    p_values = [two_phases(range(STEPS), curves, seed=seed).p_value for seed, curves in enumerate(drawn)]
    return float(np.mean(np.array(p_values) < 0.05))


def rows(scale: float) -> Iterator[Row]:
    trials, setting = round(1000 * scale), f"{STEPS} steps, {LAYERS} layers"
    for kind in NULLS:
        yield Row("phases", f"p < .05: {kind}", setting, f"{false_alarms(kind, trials):.3f}", "≤ .06")
    for kind in BEYOND:
        yield Row("phases", f"p < .05: {kind}", setting, f"{false_alarms(kind, trials):.3f}", "said to be beyond it")
    found = corrected_alarms(20, round(200 * scale))
    yield Row("phases", "any of 20 random walks, corrected", f"{STEPS} steps", f"{found:.3f}", "≤ .06")
    for peak in (4, 9):
        for fall in (0.3, 0.6):
            for noise in (0.02, 0.05):
                planted = f"rise 1 to step {peak}, fall {fall}, noise {noise}"
                power = found_falls(peak, fall, noise, round(300 * scale))
                yield Row("phases", "power", f"{setting}; {planted}", f"{power:.2f}", "")
