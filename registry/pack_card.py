"""Card of a pack: what its vectors do, measured how, and how to use them; Markdown as the Hugging Face hub shows it."""

import json
from collections.abc import Sequence

from registry.counts import counted
from registry.dimensions import DIMENSIONS
from registry.layers import layers_text
from registry.packs import Pack, PackedVector
from registry.probe_quality import LEAST_AUROC
from registry.verdicts import TextVerdict


def card(pack: Pack) -> str:
    """The README of a pack: a front matter of YAML, then tables. Made of the pack alone."""
    parts = [_front_matter(pack), _opening(pack), _effects(pack), *_monitors(pack), *_examples(pack)]
    parts += [_use(pack), _lineage(pack)]
    return "\n\n".join(parts) + "\n"


def works(packed: PackedVector) -> str:
    """Whether a vector works, in a word."""
    verdict, tested = packed.registered.text_verdict, packed.calibration.tested if packed.calibration else None
    if verdict is not None:
        return "yes" if verdict.works else "no"
    if tested is None:
        return "not recorded" if packed.calibration else "not tested"
    return "yes" if tested.works else "no"


def _front_matter(pack: Pack) -> str:
    repo = pack.model.repo
    lines = ["library_name: trusttrace", "pipeline_tag: text-generation"]
    lines += [f"base_model: {json.dumps(repo)}"] if _is_hub_id(repo) else []
    tags = ["steering-vectors", "activation-steering", "trustworthiness", *(v.dimension for v in pack.vectors)]
    return "\n".join(["---", *lines, "tags:", *(f"- {json.dumps(tag)}" for tag in tags), "---"])


def _is_hub_id(repo: str) -> bool:
    return repo.count("/") == 1 and ":" not in repo


def _opening(pack: Pack) -> str:
    model = pack.model
    return (
        f"# Steering vectors of {model.name}\n\n"
        f"Directions in the residual stream of `{model.name}` (`{model.repo}`, "
        f"{counted(model.n_layers, 'layer')} of width "
        f"{model.d_model}), one a dimension{_beside(pack)}. Positive strength is more trustworthy "
        "and counts standard deviations of activations' projections. They fit the weights with SHA-256 "
        f"`{model.weights_digest}` and no others."
    )


def _beside(pack: Pack) -> str:
    probes = [packed.probe for packed in pack.vectors if packed.probe is not None]
    each = "" if len(probes) == len(pack.vectors) else " where there is one"
    return f", with the linear probe beside it{each}" if probes else ""


def _effects(pack: Pack) -> str:
    header = ("dimension", "works", "strength", "effect on test [95 %]", "largest random", "perplexity", "safe range")
    rows = [(packed.dimension, works(packed), *_measured(packed)) for packed in pack.vectors]
    return (
        f"{_table(header, rows)}\n\nThe effect is measured on texts that neither the vector was fitted nor its "
        "strength chosen on: the fall of the share of such answers, or the move of preference between statements in "
        "nats. *Works*: the whole interval lies above zero and above every random direction, at little perplexity. "
        "Where it does not work no strength is recommended. *Written*: what the model writes to an evaluation's own "
        f"prompts, beside random directions of equal perplexity cost. {_together(pack)}"
    )


def _together(pack: Pack) -> str:
    limits = [limit for packed in pack.vectors if (limit := packed.registered.joint_limit) is not None]
    if not limits:
        return "Each strength was measured alone; together they cost more."
    together = ", ".join(f"{name} {strength:.3g}" for name, strength in limits[0].together.items())
    return f"Together: {together}, at {limits[0].perplexity_ratio:.3f}x the perplexity."


def _measured(packed: PackedVector) -> tuple[str, ...]:
    calibration, verdict = packed.calibration, packed.registered.text_verdict
    if calibration is None:
        return ("–", "not calibrated", "–", "–", "–")
    if verdict is not None:
        return (f"{packed.recommended:g}", *_written(verdict), f"{calibration.low:g} to {calibration.high:g}")
    safe, tested = f"{calibration.low:g} to {calibration.high:g}", calibration.tested
    if tested is None:
        return (f"{calibration.recommended:g}", "not recorded", "–", "–", safe)
    unsteered = "" if tested.unsteered is None else f" of {tested.unsteered:.3f}"
    interval = f"{tested.shift:z.3f} [{tested.shift_low:z.3f}, {tested.shift_high:z.3f}]"
    effect = f"{tested.measure}: {interval}{unsteered} (n = {tested.n})"
    cost = f"{tested.perplexity_ratio:.3f}x"
    return (f"{calibration.recommended:g}", effect, f"{tested.largest_random:z.3f}", cost, safe)


def _written(verdict: TextVerdict) -> tuple[str, str, str]:
    fall = f"{verdict.unsteered - verdict.steered:z.3f} [{-verdict.change_high:z.3f}, {-verdict.change_low:z.3f}]"
    effect = (
        f"{verdict.behaviour}, written: {verdict.unsteered:.3f} to {verdict.steered:.3f}, a fall of {fall} "
        f"(n = {verdict.n}, p = {verdict.p:.4f})"
    )
    return effect, f"{-verdict.best_random:z.3f}", f"{verdict.perplexity_ratio:.3f}x"


def _monitors(pack: Pack) -> list[str]:
    """What the probes of answers are worth, where a pack has any."""
    probes = [(packed.dimension, packed.probe, packed.probe.quality) for packed in pack.vectors if packed.probe]
    rows = [
        (
            *(dimension, "yes" if quality.works else "no", str(probe.layer), str(probe.window)),
            f"{quality.auroc:.3f} [{quality.auroc_low:.3f}, {quality.auroc_high:.3f}] (n = {quality.n_answers})",
            *(f"{value:.3f}" for value in (quality.at_end, quality.words, quality.shuffled, quality.false_alarms)),
            *(f"{quality.stop_below:.3f}", f"{quality.caught:.0%}, {quality.caught_wrongly:.0%}"),
        )
        for dimension, probe, quality in probes
        if quality is not None
    ]
    if not rows:
        return []
    header = (
        *("dimension", "works", "layer", "tokens", "AUROC [95 %]", "at the end", "words", "shuffled", "false alarms"),
        *("stop below", "caught, wrongly"),
    )
    note = (
        "A monitor reads an answer by the mean over so many of its latest tokens at the layer's output. *AUROC*: of "
        "its readings at the tokens of answers to prompts that the probe did not see; *at the end*: of each answer's "
        "last reading, beside that of the answer's *words* alone; *shuffled*: the highest of probes of shuffled "
        "labels; *false alarms*: the share of tokens of ordinary prose that are read below one half; *stop below*: the "
        "reading under which 1 % of them lie; *caught, wrongly*: the shares of untrustworthy and of trustworthy "
        "held-out answers that are read below that at some token. *Works*: the "
        f"interval lies above {LEAST_AUROC} and above every shuffled probe; others are not used."
    )
    return [f"## Monitors\n\n{_table(header, rows)}\n\n{note}"]


def _examples(pack: Pack) -> list[str]:
    shown = [(packed.dimension, packed.example) for packed in pack.vectors if packed.example is not None]
    if not shown:
        return []
    header = ("dimension", "strength", "prompt", "unsteered", "steered")
    rows = [
        (
            f"{dimension} ({example.tried})",
            f"{example.strength:g}",
            *map(_cell, (example.prompt, example.unsteered, example.steered)),
        )
        for dimension, example in shown
    ]
    note = (
        'Greedy, every token steered (`"apply": {"prompt": "all"}`); each chosen of the number of prompts in brackets '
        "to show the effect, not typical."
    )
    return [f"## Examples\n\n{note}\n\n{_table(header, rows)}"]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def _cell(text: str) -> str:
    """A text in a cell of a table, with nothing in it that is Markdown or HTML."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;").replace("`", "&#96;")
    return " ".join(escaped.replace("*", "&#42;").replace("_", "&#95;").replace("[", "&#91;").split())


def _use(pack: Pack) -> str:
    exported, name = [packed for packed in pack.vectors if packed.has_control_vector], pack.model.name
    first = next(iter(exported), pack.vectors[0])
    model = "" if pack.model.argument else f" -P 'model={name}=<path of {name}>'"
    meaning = DIMENSIONS.get(first.dimension)
    towards = f", towards {meaning.trustworthy}" if meaning else ""
    strength = f"{first.recommended or 1:g}"
    return (
        "## Use\n\nWith TrustTrace, from this folder into its registry, and served:\n\n"
        f"    mlflow run . -e import --env-manager local -P 'pack=<this folder>'{model}\n"
        f"    TRUSTTRACE_MODEL={name} make serve\n\n"
        f'A request then says `"steering": {{"strengths": {{"{first.dimension}": {strength}}}, "apply": {{"prompt": '
        f'"all"}}}}`{towards}. {_for_llama_cpp(exported)}'
        "`vectors/<dimension>/vector.safetensors` has the unit vector `direction`, and in its header `scale` and "
        "`layer`: add `strength * scale * direction` to the output of decoder block `layer`, counted from 0"
        f"{_of_several(pack)}."
    )


def _for_llama_cpp(exported: Sequence[PackedVector]) -> str:
    if not exported:
        return "No strength is recommended at a layer from 1 on, so there are no control vectors for llama.cpp.\n\n"
    return (
        "With llama.cpp, whose control vectors lie in `gguf/` at the recommended strength where one is recommended:\n\n"
        f"    llama-cli -m model.gguf --control-vector-scaled gguf/{exported[0].dimension}.gguf:1.0\n\n"
    )


def _of_several(pack: Pack) -> str:
    several = any(len(packed.vector.layers) > 1 for packed in pack.vectors)
    return "; a vector over several layers has `direction.<layer>` and `scale.<layer>` of each" if several else ""


def _lineage(pack: Pack) -> str:
    header = ("dimension", "version", "method", "layer", "checkpoint", "statements", "n", "run", "commit")
    rows = []
    for packed in pack.vectors:
        vector = packed.vector
        lineage = vector.lineage
        where = f"{lineage.model} step {lineage.checkpoint_step:,}"
        rows.append(
            (
                *(
                    packed.dimension,
                    f"`{packed.origin.removeprefix('models:/')}`",
                    lineage.method,
                    layers_text(vector.layers),
                ),
                *(where, f"{lineage.statements_source} `{lineage.statements_digest[:12]}`", str(lineage.n_train)),
                *(f"`{lineage.run_id[:12]}`", f"`{lineage.code_commit[:12]}`"),
            )
        )
    files = "Every file is listed with its SHA-256 in `pack.json`; none of them can run."
    return f"## Lineage\n\n{_table(header, rows)}\n\n{files}"
