"""Series explorer: accuracy by layer and dimension at each checkpoint, and the statements that are learnt at each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

import pandas as pd

from pipelines.report.controls import ProbeControls
from pipelines.report.tracking import ChampionCard, ReportedRun
from pipelines.tracking.checkpoints import checkpoint_names
from registry.checkpoints import INIT

NEVER = "never"
LAYER = "layer "
"""How ``probe.csv`` marks the row that tells what choosing a checkpoint's layer is worth."""
MOST_LISTED = 8
MOST_AT_A_STEP = 3
LONGEST = 160
"""Characters of a statement."""


@dataclass(frozen=True)
class StatementLists:
    """Which of one dimension's statements the probe is right about, and from when on."""

    n: int
    layer: int
    right_at_random_init: int
    learnt_at: tuple[int, ...]
    """How many at each checkpoint and not before."""
    shown_at: tuple[tuple[str, ...], ...]
    """Some of them."""
    first: tuple[tuple[str, str], ...]
    """Statement and checkpoint."""
    last: tuple[tuple[str, str], ...]
    never: tuple[str, ...]
    n_never: int

    @property
    def learnt_by(self) -> tuple[int, ...]:
        """How many are right from each checkpoint on."""
        return tuple(accumulate(self.learnt_at))


@dataclass(frozen=True)
class DimensionMap:
    """One dimension at every checkpoint and layer."""

    name: str
    floor: float
    """The n-gram floor."""
    accuracy: tuple[tuple[float, ...], ...]
    """By checkpoint, then by layer; held out, as the mean over seeds."""
    chosen: tuple[str, ...]
    """What the checkpoint's layer is worth, with its interval; empty at random initialisation."""
    above: tuple[bool, ...]
    """Whether that interval lies above those of the n-gram floor and the random initialisation."""
    statements: StatementLists | None
    vector: str
    link: str


@dataclass(frozen=True)
class Explorer:
    """All that the slider shows."""

    checkpoints: tuple[str, ...]
    layers: tuple[int, ...]
    dimensions: tuple[DimensionMap, ...]

    @property
    def layers_from_the_top(self) -> tuple[tuple[int, int], ...]:
        """Position and layer, the deepest first."""
        return tuple(reversed(tuple(enumerate(self.layers))))

    def to_dict(self) -> dict[str, object]:
        """What changes with the slider; the page holds the rest."""
        return {
            "checkpoints": self.checkpoints,
            "dimensions": [
                {
                    "floor": dimension.floor,
                    "accuracy": dimension.accuracy,
                    "chosen": dimension.chosen,
                    "above": dimension.above,
                    "counts": dimension.statements.learnt_by if dimension.statements else (),
                    "new": dimension.statements.learnt_at if dimension.statements else (),
                    "shown": dimension.statements.shown_at if dimension.statements else (),
                }
                for dimension in self.dimensions
            ],
        }


def explorer(runs: Mapping[str, ReportedRun], champions: Iterable[ChampionCard] = ()) -> Explorer | None:
    """From the tables of ``probe``; ``None`` where there are none, or of a version without those columns."""
    tables = runs["probe"].tables if "probe" in runs else {}
    table = tables.get("probe.csv", pd.DataFrame())
    if table.empty or not {"revision", "layer", "seed", "selected", "ngram_floor"} <= set(table.columns):
        return None
    table = table.assign(checkpoint=checkpoint_names(table))
    names = _checkpoint_names(table)
    layers = tuple(sorted(int(layer) for layer in table["layer"].unique()))
    cards = {str(card.row.get("dimension")): card for card in champions}
    learnt = tables.get("learnt.csv", pd.DataFrame(columns=["dimension"]))
    controls = ProbeControls.of(runs["probe"])
    dimensions = tuple(
        _map(str(name), own, learnt[learnt["dimension"] == name], names, layers, cards.get(str(name)), controls)
        for name, own in table.groupby("dimension", sort=False)
    )
    return Explorer(tuple(names.values()), layers, dimensions)


def _checkpoint_names(table: pd.DataFrame) -> dict[str, str]:
    """By stage and revision, in the order of training. Stages count steps anew: then these are the name."""
    rows = table.drop_duplicates("checkpoint")
    steps = [int(step) for step in rows["step"]]
    counted_once = len(set(steps)) == len(steps)
    return {
        name: "random initialisation" if name == INIT else f"step {step:,}" if counted_once else name
        for name, step in zip(rows["checkpoint"], steps, strict=True)
    }


def _map(
    name: str,
    table: pd.DataFrame,
    learnt: pd.DataFrame,
    names: Mapping[str, str],
    layers: tuple[int, ...],
    card: ChampionCard | None,
    controls: ProbeControls,
) -> DimensionMap:
    selected = table["selected"].fillna("").astype(str)
    by_seed = table[selected == ""]
    accuracy = by_seed.groupby(["checkpoint", "layer"])["accuracy"].mean()
    chosen = table[selected.str.startswith(LAYER)].set_index("checkpoint")
    return DimensionMap(
        name=name,
        floor=round(float(by_seed["ngram_floor"].mean()), 3),
        accuracy=tuple(tuple(round(float(accuracy[place, layer]), 3) for layer in layers) for place in names),
        chosen=tuple(_chosen(chosen, place) for place in names),
        above=tuple(_is_above(chosen, place, controls) for place in names),
        statements=None if learnt.empty else _lists(learnt, names, table),
        vector=str(card.row.get("vector", "")) if card else "",
        link=card.link if card else "",
    )


def _chosen(chosen: pd.DataFrame, place: str) -> str:
    if place not in chosen.index:
        return ""
    row = chosen.loc[place]
    return f"{row.accuracy:.2f} [{row.accuracy_low:.2f}, {row.accuracy_high:.2f}], layer {int(row.layer)}"


def _is_above(chosen: pd.DataFrame, place: str, controls: ProbeControls) -> bool:
    return place in chosen.index and bool(controls.are_beaten(chosen.loc[place]))


def _lists(learnt: pd.DataFrame, names: Mapping[str, str], table: pd.DataFrame) -> StatementLists:
    """Of equals the statements that more checkpoints are right about, or fewer where they are late or never learnt."""
    order = {place: position for position, place in enumerate(names)}
    # Statements are learnt in the first stage, which alone may bear a revision of theirs first.
    place_of = dict(zip(table["revision"].astype(str)[::-1], table["checkpoint"][::-1], strict=True))
    learnt = learnt.assign(checkpoint=learnt["revision"].astype(str).map(place_of))
    never = learnt[learnt["learnt"] == NEVER].sort_values("right_share", kind="stable")
    known = learnt[learnt["learnt"] != NEVER].assign(position=lambda rows: rows["checkpoint"].map(order))
    early = known.sort_values(["position", "right_share"], ascending=[True, False], kind="stable")
    late = known.sort_values(["position", "right_share"], ascending=[False, True], kind="stable")
    at = {position: [_cut(text) for text in rows["statement"]] for position, rows in early.groupby("position")}
    return StatementLists(
        n=len(learnt),
        layer=int(learnt["layer"].iloc[0]),
        right_at_random_init=int(learnt["random_init"].sum()),
        learnt_at=tuple(len(at.get(position, ())) for position in order.values()),
        shown_at=tuple(tuple(at.get(position, ())[:MOST_AT_A_STEP]) for position in order.values()),
        first=_dated(early, names),
        last=_dated(late, names),
        never=tuple(_cut(text) for text in never["statement"].head(MOST_LISTED)),
        n_never=len(never),
    )


def _dated(rows: pd.DataFrame, names: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    shown = rows.head(MOST_LISTED)
    return tuple(zip(map(_cut, shown["statement"]), (names[place] for place in shown["checkpoint"]), strict=True))


def _cut(text: object) -> str:
    words = str(text)
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}…"
