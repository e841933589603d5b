"""Notes beneath the printed table: saturated choices, layers without a direction, results of former versions."""

from collections.abc import Sequence

from pipelines.estimators.saturation import CANNOT_BE_TOLD
from pipelines.probe.result import ResultStore, UnitResult
from pipelines.probe.selection import SATURATED, SelectedProbe
from registry.counts import counted


def saturated(probe: SelectedProbe) -> list[str]:
    """A line for a choice whose accuracy can hardly rise, with what still can."""
    measured = probe.saturation
    if measured is None or probe.accuracy.value < SATURATED:
        return []
    return [
        f"{probe.result.dimension} is saturated: margin {measured.margin or CANNOT_BE_TOLD} standard deviations, "
        f"fragility {measured.fragility} RMS of the activations, TPR at 1 % FPR {measured.tpr or CANNOT_BE_TOLD}"
    ]


def without_saturation(results: Sequence[UnitResult]) -> list[str]:
    """A line where stored results come from a version that measured accuracy alone."""
    former = sum(result.distances is None for result in results)
    return [
        f"Stored without margin, fragility and TPR at 1 % FPR, which stay empty: {former} of "
        f"{counted(len(results), 'unit')}; to measure them anew, remove {ResultStore().directory} first"
    ] * bool(former)


def coinciding(results: Sequence[UnitResult]) -> list[str]:
    """A line for each unit with layers at which the class means coincide."""
    return [
        f"{result.checkpoint.caption}: the class means of {result.dimension} coincide at layers "
        f"{', '.join(map(str, result.layers_without_direction))}, so probes are at chance there and no direction exists"
        for result in results
        if result.layers_without_direction
    ]
