"""Places of vectors: the layer of each vector that is made, or the layers over which it has a direction each.

``8,12,10-14`` names three: layer 8, layer 12, and layers 10 to 14 together.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pipelines.probe.result import UnitResult
from pipelines.vectors.methods import OPTIMISED, FittedDirection
from registry.counts import counted
from registry.errors import InvalidInput, Mismatch
from registry.layers import layers_text, place_text, read_layers

Place = tuple[int, ...]
"""The layers of one vector, in order."""

Fitted = Mapping[int, FittedDirection]
"""The directions that one method has at the layers of a place."""


def read_places(spec: str, n_layers: int, model: str) -> tuple[Place, ...]:
    """The places that ``spec`` names, each once. Raises ``InvalidInput``, and ``Mismatch`` beyond ``n_layers``."""
    places = named_places(spec)
    deepest = max(place[-1] for place in places)
    if deepest >= n_layers:
        raise Mismatch(f"layer {deepest} does not exist: {model} has {counted(n_layers, 'layer')}, 0 to {n_layers - 1}")
    return places


def named_places(spec: str) -> tuple[Place, ...]:
    """The same before it is known how many layers the model has."""
    return tuple(sorted({read_layers(part.strip()) for part in spec.split(",")}))


def names_places(spec: str) -> bool:
    """Whether ``spec`` is numbers and ranges separated by commas."""
    try:
        return all(read_layers(part.strip()) for part in spec.split(","))
    except InvalidInput:
        return False


def with_directions(places: Sequence[Place], unit: UnitResult) -> tuple[tuple[Place, ...], str]:
    """The places at whose layers the classes of ``unit`` have a direction between them, and a line on the others."""
    without = {place: set(place) & set(unit.layers_without_direction) for place in places}
    left_out = sorted({layer for layers in without.values() for layer in layers})
    line = (
        f"{unit.checkpoint.caption}: no vector for {unit.dimension} at {place_text(left_out)}, where the class means "
        "coincide"
    )
    return tuple(place for place in places if not without[place]), line if left_out else ""


def layers_of(places: Iterable[Place]) -> tuple[int, ...]:
    """All layers that have to be read."""
    return tuple(sorted({layer for place in places for layer in place}))


def require_trainable(places: Iterable[Place], methods: Sequence[str]) -> None:
    """Raise ``InvalidInput`` for several layers where a method makes vectors of one alone."""
    several = next((place for place in places if len(place) > 1), None)
    if several is not None and OPTIMISED in methods:
        raise InvalidInput(
            f"`methods` {OPTIMISED} trains a vector at one layer and `layers` names {layers_text(several)} as one "
            "vector: give single layers, or the range to the other methods by a command of its own"
        )


def gathered(fitted: Iterable[tuple[int, FittedDirection]], places: Sequence[Place]) -> Iterator[Fitted]:
    """For each place and method the directions at its layers; none where the method has not one at each of them."""
    by_label: dict[str, dict[int, FittedDirection]] = {}
    for layer, direction in fitted:
        by_label.setdefault(direction.label, {})[layer] = direction
    for directions in by_label.values():
        for place in places:
            if directions.keys() >= set(place):
                yield {layer: directions[layer] for layer in place}
