"""Descriptions of the registry's entries, in Markdown, for whoever decides on MLflow's pages what is served."""

import shlex
from collections.abc import Mapping

from registry.comparisons import with_comparison
from registry.dimensions import DIMENSIONS
from registry.embedded import data_argument, model_argument
from registry.layers import place_text
from registry.records import CHAMPION, vector_name
from registry.vectors import LinearProbe, SteeringVector
from registry.verdicts import TextVerdict

_VERSION = "VERSION"
"""Stands for a version's number until it is known."""
_ORIGIN = "\n\n**Origin**: "
_NOT_CALIBRATED = "**Not calibrated**"
_MEASURED_BY = "\n\nCurves and tables of this calibration: "
_BELOW_VERDICT = "\n\n**Before that**: "


def describe_vectors(model: str, dimension: str) -> str:
    known, name = DIMENSIONS.get(dimension), vector_name(model, dimension)
    meaning = f" ({known.meaning}): positive strength moves towards {known.trustworthy}" if known else ""
    return (
        f"Steering vectors of `{model}` for **{dimension}**{meaning}. Strength counts standard deviations. Each "
        f"version was fitted on one pre-training checkpoint, at one layer or several. {describe_promotion(name)}"
    )


def describe_promotion(name: str) -> str:
    """The action that changes what is served, and the button beside it that does not."""
    return (
        f"Services follow the alias `{CHAMPION}`: to serve a version, give it that alias (*Aliases*, at the top of its "
        "page) or run "
        f'`mlflow.MlflowClient().set_registered_model_alias("{name}", "{CHAMPION}", {_VERSION})`. MLflow\'s '
        "*Promote model* copies a version to another name and changes nothing that is served."
    )


def describe_vector(vector: SteeringVector, metrics: Mapping[str, float], probe: LinearProbe | None = None) -> str:
    lineage = vector.lineage
    transferred = f" Made for `{lineage.target}`: one unit of strength was measured there." if lineage.target else ""
    measured = "".join(f"- `{name}`: {value:.4g}\n" for name, value in metrics.items())
    return (
        f"{lineage.method} direction for **{vector.dimension}** at {_place(vector)}, fitted on {lineage.n_train} "
        f"statements of `{lineage.statements_source}`.\n\n"
        f"From checkpoint [{lineage.checkpoint_uri}](#/models/{_ui_path(lineage.checkpoint_uri)}) "
        f"(step {lineage.checkpoint_step:,}, revision `{lineage.checkpoint_revision}`) by run "
        f"`{lineage.run_id}` at commit `{lineage.code_commit[:12]}`.{transferred}{_monitor(probe)}\n\n{measured}\n"
        f"{describe_promotion(vector_name(lineage.steers, vector.dimension))}"
    )


def _monitor(probe: LinearProbe | None) -> str:
    """What a probe of answers is worth; statements' probes have their scores in the list of metrics."""
    if probe is None or probe.quality is None:
        return ""
    use = "Monitors read answers by its probe" if probe.works else "Its probe of answers is not used"
    return f"\n\n{use}, {probe.window} tokens at once: {probe.quality.describe()}."


def _place(vector: SteeringVector) -> str:
    where = place_text(vector.layers)
    return where if len(vector.layers) == 1 else f"{where}, with a direction of its own at each"


def describe_uncalibrated(origin: str, vector: SteeringVector) -> str:
    """The origin of a version below what is not known of it: a probe's accuracy says nothing of what steering does."""
    name, source = vector_name(vector.lineage.steers, vector.dimension), vector.lineage.statements_source
    data = "".join(f" -P {key}={shlex.quote(value)}" for key, value in data_argument(source).items())
    return (
        f"{_NOT_CALIBRATED}: nothing is known of what steering by it does, or of how far it may go. Measure it by "
        f"`mlflow run . -e calibrate --env-manager local -P model={shlex.quote(model_argument(vector.lineage.steers))} "
        f"-P dimensions={vector.dimension}{data} -P methods=none -P vectors={name}/{_VERSION}`."
        f"{_ORIGIN}{origin}"
    )


def of_version(description: str, version: str) -> str:
    """The description once the number of its version is known: its commands name it."""
    return description.replace(f"/{_VERSION}`", f"/{version}`").replace(f", {_VERSION})`", f', "{version}")`')


def describe_calibrated(description: str, summary: str, run: str = "") -> str:
    """``summary`` above the description of the version's origin; an earlier summary is replaced.

    ``run`` is the page of the run that measured it.
    """
    origin = description.rpartition(_ORIGIN)[2]
    measured = f"{_MEASURED_BY}[run]({run})" if run else ""
    return f"{summary}{measured}{_ORIGIN}{origin}" if summary else origin


def summary_of(description: str) -> str:
    """What was measured, above a version's origin; without the run and the champion, which other registries lack."""
    summary, separator, _ = with_comparison(description, "").rpartition(_ORIGIN)
    return summary.partition(_MEASURED_BY)[0] if separator and not summary.startswith(_NOT_CALIBRATED) else ""


def describe_imported(origin: str, reference: str, pack_digest: str) -> str:
    """The description of an imported version's origin: its run is in the registry that it came from."""
    return f"Imported from the pack `{pack_digest[:12]}`, where it was `{reference}`.\n\n{origin}"


def describe_judged(description: str, verdict: TextVerdict) -> str:
    """The verdict above a version's description; an earlier one is replaced."""
    return f"{verdict.describe()}{_BELOW_VERDICT}{description.rpartition(_BELOW_VERDICT)[2]}"


def _ui_path(uri: str) -> str:
    name, _, version = uri.removeprefix("models:/").rpartition("/")
    return f"{name}/versions/{version}"
