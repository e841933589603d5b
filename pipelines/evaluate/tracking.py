"""Evaluations in MLflow: the vectors that one takes from the registry, and the verdicts that it leaves on its run."""

from collections.abc import Sequence

from pipelines.estimators.estimate import Estimate
from pipelines.evaluate.conditions import Subject
from pipelines.evaluate.results import Verdict
from pipelines.evaluate.text import TextResult
from pipelines.tracking.runs import Point, log_points
from registry.store import RegisteredVector, VectorStore
from serving.steering.bank import ServedVector


def shuffled_vectors(champion: ServedVector) -> list[ServedVector]:
    """The newest registered control at the champion's layers that was fitted on shuffled labels, if there is one."""
    store = VectorStore()
    for version in store.list(champion.vector.lineage.steers, champion.dimension):
        if "shuffled" in version.tags.get("method", "") and version.layers == champion.layers:
            return [ServedVector(version, store.load(version))]
    return []


def log_classifier(run_id: str, auroc: Estimate) -> None:
    """How well the judge of toxicity does, so that its verdicts can be weighed."""
    values = {"auroc": auroc.value, "auroc_low": auroc.low, "auroc_high": auroc.high}
    log_points(run_id, [(f"toxicity_classifier/{name}", value, 0) for name, value in values.items()])


def log_verdicts(run_id: str, verdicts: Sequence[Verdict]) -> None:
    """Metrics that the MLflow UI can compare across runs."""
    points: list[Point] = []
    for verdict in verdicts:
        change = verdict.row.comparison.difference
        values = {
            "preference": change.value,
            "preference_low": change.low,
            "preference_high": change.high,
            "p_holm": verdict.p,
            **({"largest_random": max(verdict.random)} if verdict.random else {}),
            "perplexity_ratio": verdict.perplexity_ratio,
            "works": float(verdict.works),
        }
        points += [(f"{verdict.dimension}/{name}", value, 0) for name, value in values.items()]
    log_points(run_id, points)


def log_text_verdicts(
    run_id: str, subjects: Sequence[Subject], results: Sequence[TextResult]
) -> list[RegisteredVector]:
    """What is written, as metrics of the run, and as the verdict of each vector's version.

    A champion that is shown not to work is champion no longer, and no strength of it is recommended. A look that is too
    small to show either leaves a version as it is, with the verdict of a larger one.
    """
    store, champions = VectorStore(), {subject.dimension.name: subject.champion for subject in subjects}
    points: list[Point] = []
    judged = []
    for result in results:
        verdict = result.to_verdict(run_id)
        values = {
            "untrustworthy_unsteered": verdict.unsteered,
            "untrustworthy_steered": verdict.steered,
            "change_on_text": verdict.change,
            "change_on_text_low": verdict.change_low,
            "change_on_text_high": verdict.change_high,
            "best_random_change": verdict.best_random,
            "p_on_text": verdict.p,
            "n_on_text": float(verdict.n),
            "perplexity_ratio_on_text": verdict.perplexity_ratio,
            "works_on_text": float(verdict.works),
        }
        points += [(f"{result.dimension}/{name}", value, 0) for name, value in values.items()]
        version = champions[result.dimension].registered
        if result.is_decided:
            version = store.judge(version, verdict)
        judged.append(store.demote(version) if result.is_shown_not_to_work else version)
    log_points(run_id, points)
    return judged
