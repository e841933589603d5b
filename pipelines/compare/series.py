"""Probed series: what a finished probing run says of one series, and which runs can be compared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NoReturn

import pandas as pd

from pipelines.cli.pasting import mlflow_run
from pipelines.estimators.estimate import Estimate
from pipelines.estimators.onsets import Onset, onset_above
from pipelines.probe.options import ProbeOptions
from pipelines.tracking.checkpoints import checkpoint_names
from registry.checkpoints import MAIN
from registry.embedded import embedded_seed
from registry.errors import InvalidInput, Mismatch
from registry.model_names import named_model

DECIDING = (
    "data", "dimensions", "limit", "checkpoints", "layers", "pooling", "protocol", "seeds", "precision", "device",
    "device_map",
)  # fmt: skip
"""Parameters of a probing run that decide its numbers."""
SHARED = ("layers", "pooling", "protocol", "seeds")
"""Those that runs must share to be compared; statements are compared by their digest."""


@dataclass(frozen=True)
class Curve:
    """Accuracy of one series on one dimension over its checkpoints, a deep layer chosen for each in nested folds."""

    steps: tuple[int, ...]
    accuracies: tuple[Estimate, ...]
    random_init: Estimate
    """The same choice at random initialisation; in runs of older versions its interval is the widest of the layers'."""
    ngram_floor: float
    tokens: tuple[int | None, ...] = ()
    """Seen at each step, where the names of checkpoints tell them; empty for runs of older versions."""

    @property
    def onset(self) -> Onset:
        """Where it comes surely above the random initialisation, wrongly in at most 5 % over all steps."""
        return onset_above(self.steps, self.accuracies, self.random_init)

    def at(self, step: int) -> Estimate:
        return self.accuracies[self.steps.index(step)]


@dataclass(frozen=True, eq=False)
class ProbedSeries:
    """One series as a finished run of ``probe`` left it in MLflow."""

    name: str
    """In the registry: ``tiny-1``."""
    given: str
    """As it was given to ``compare``: a model, or the id of a run."""
    model: str
    """As it was given to ``probe``."""
    run_id: str
    started: int
    params: Mapping[str, str]
    statements: Mapping[str, str]
    """The digest of each dimension's statements."""
    weights: frozenset[str]
    """The digests of its trained checkpoints."""
    curves: Mapping[str, Curve]
    left_out: tuple[str, ...]
    """Checkpoints that are no points of a curve, each with the reason."""


def probe_command(model: str, like: Mapping[str, str]) -> str:
    """The command that probes ``model`` with the parameters of another run that decide its numbers."""
    defaults = ProbeOptions().params()
    given = {
        "model": model,
        **{name: like[name] for name in DECIDING if like.get(name, "") not in ("", defaults[name])},
    }
    return mlflow_run("probe", **given)


def read_curves(
    probes: pd.DataFrame, controls: pd.DataFrame, audit: pd.DataFrame | None
) -> tuple[dict[str, Curve], tuple[str, ...]]:
    """The curve of each dimension by ``probe.csv`` and ``controls.csv``, and the checkpoints that are no points of it.

    ``audit`` is ``series.csv``, which older runs lack.
    """
    chosen = probes[probes["selected"].astype(str).str.startswith("layer ")]
    names = pd.Series(checkpoint_names(chosen), chosen.index)
    excluded = {} if audit is None else _excluded(names, audit, has_stages="stage" in chosen)
    initial = controls[(controls["control"] == "random_init") & controls["seed"].isna()]
    curves = {
        str(dimension): _curve(rows, initial[initial["dimension"] == dimension])
        for dimension, rows in chosen[~names.isin(excluded)].groupby("dimension", sort=False)
    }
    return curves, tuple(f"{name}: {reason}" for name, reason in excluded.items())


def _curve(rows: pd.DataFrame, initial: pd.DataFrame) -> Curve:
    rows = rows.drop_duplicates("step").sort_values("step")
    values = zip(rows["accuracy"], rows["accuracy_low"], rows["accuracy_high"], rows["n_test"], strict=True)
    return Curve(
        steps=tuple(map(int, rows["step"])),
        accuracies=tuple(Estimate(float(value), float(low), float(high), int(n)) for value, low, high, n in values),
        random_init=_control(rows.iloc[0], initial),
        ngram_floor=float(rows["ngram_floor"].iloc[0]),
        tokens=tuple(None if pd.isna(count) else int(count) for count in rows.get("tokens", ())),
    )


def _control(row: pd.Series, initial: pd.DataFrame) -> Estimate:
    value, n = float(row["random_init"]), int(row["n_test"])
    if "random_init_low" in row:
        return Estimate(value, float(row["random_init_low"]), float(row["random_init_high"]), n)
    below = float((initial["accuracy"] - initial["accuracy_low"]).max())
    above = float((initial["accuracy_high"] - initial["accuracy"]).max())
    return Estimate(value, max(value - below, 0.0), min(value + above, 1.0), n)


def _excluded(names: pd.Series, audit: pd.DataFrame, *, has_stages: bool) -> dict[str, str]:
    """Checkpoints that are no points of the first stage's curve, by name, each with the reason."""
    audited = audit.assign(name=checkpoint_names(audit) if has_stages else audit["revision"])
    audited = audited[audited["name"].isin(names) & audited["left_out"].isna()]
    lines = {str(row["name"]): _line(row) for _, row in audited.iterrows()}
    runs = list(dict.fromkeys(line for line in lines.values() if line[0] != MAIN))
    excluded: dict[str, str] = {}
    for _, row in audited.iterrows():
        # Runs of older versions tell of no dispute.
        if row.get("disputed", False) is True:
            excluded[row["name"]] = "its weights come back after others, so that its step is not certain"
        elif pd.notna(row["twin_of"]):
            excluded[row["name"]] = f"it has the weights of {row['twin_of']}"
    for name, line in lines.items():
        if line not in runs[:1] and not (line[0] == MAIN and len(runs) <= 1):
            excluded.setdefault(name, "it is of another stage than the first")
    return excluded


def _line(row: pd.Series) -> tuple[str, int]:
    """Stage and ingredient of a row of ``series.csv``, in which empty cells are not numbers."""
    stage, ingredient = row["stage"], row["ingredient"]
    return "" if pd.isna(stage) else str(stage), -1 if pd.isna(ingredient) else int(ingredient)


def require_comparable(series: Sequence[ProbedSeries]) -> None:
    """Raise ``InvalidInput`` or ``Mismatch`` where two of the runs cannot be compared, with a command that mends it."""
    for first, second in combinations(series, 2):
        if first.name == second.name:
            _refuse_one_name(first, second)
        if first.weights <= second.weights or second.weights <= first.weights:
            raise Mismatch(
                f"{first.name} and {second.name} have the same weights, so they are one series; leave {second.name} "
                "out of `models`"
            )
        _require_shared_parameters(first, second)
        _require_shared_statements(first, second)
    if not shared_dimensions(series):
        known = "; ".join(f"{each.name}: {', '.join(each.curves)}" for each in series)
        raise Mismatch(
            f"no dimension was probed in all runs ({known}); probe the others: "
            f"{probe_command(series[1].model, series[0].params)}"
        )


def _refuse_one_name(first: ProbedSeries, second: ProbedSeries) -> NoReturn:
    """Raise ``InvalidInput`` for one series under two names, or for two series that the registry calls alike."""
    spelled = "" if first.given == second.given else f" ({first.given} and {second.given})"
    twice = f"`models` names {first.name} twice{spelled}"
    if first.run_id == second.run_id:
        raise InvalidInput(f"{twice}: both are the run {first.run_id}; leave one out")
    if first.weights & second.weights or embedded_seed(first.name) is not None:
        raise InvalidInput(f"{twice}: the runs {first.run_id} and {second.run_id} are of one series; leave one out")
    renamed = f"{first.name}-2={named_model(second.model)[1]}"
    raise InvalidInput(
        f"{first.given} (run {first.run_id}) and {second.given} (run {second.run_id}) are two series that are both "
        f"called {first.name}; give the second a name of its own: {probe_command(renamed, second.params)}"
    )


def _require_shared_parameters(first: ProbedSeries, second: ProbedSeries) -> None:
    defaults = ProbeOptions().params()
    for name in SHARED:
        values = [each.params.get(name, defaults[name]) for each in (first, second)]
        if values[0] != values[1]:
            raise Mismatch(
                f"`{name}` is {values[0]} in the run of {first.name} and {values[1]} in that of {second.name}; probe "
                f"the second like the first: {probe_command(second.model, first.params)}"
            )


def _require_shared_statements(first: ProbedSeries, second: ProbedSeries) -> None:
    older, newer = sorted((first, second), key=lambda each: each.started)
    for dimension in shared_dimensions((first, second)):
        if first.statements[dimension] != second.statements[dimension]:
            raise Mismatch(
                f"{first.name} and {second.name} were probed on different statements of {dimension} (digests "
                f"{first.statements[dimension][:12]} and {second.statements[dimension][:12]}); probe {older.name} on "
                f"those of {newer.name}: {probe_command(older.model, newer.params)}"
            )


def shared_dimensions(series: Iterable[ProbedSeries]) -> tuple[str, ...]:
    """The dimensions that every run has, in the order of the first."""
    first, *others = series
    return tuple(name for name in first.curves if all(name in other.curves for other in others))
