"""Pasting: the commands that messages name, such that they work as they are pasted."""

import shlex

from pipelines.cli.parameters import Options


def mlflow_run(entry_point: str, *groups: Options, **values: str) -> str:
    """The command that runs ``entry_point`` with ``values``, and with what ``groups`` hold beside their defaults."""
    given = {name: values.pop(name) for name in ("model",) if name in values}
    for options in groups:
        given |= chosen(options, *options.params())
    parameters = (f" -P {shlex.quote(f'{name}={value}')}" for name, value in (given | values).items())
    return f"mlflow run . -e {entry_point} --env-manager local{''.join(parameters)}"


def chosen(options: Options, *names: str) -> dict[str, str]:
    """What ``options`` hold of ``names`` beside their defaults: what a command that has them too is to be given."""
    defaults = type(options)().params()
    return {name: text for name, text in options.params().items() if name in names and text != defaults[name]}


def make_serve(model: str, **settings: str) -> str:
    """The command that serves ``model``, by its default or its setting, with further ``settings`` of the service."""
    settings = settings if model == "smollm2" else {"model": model, **settings}
    # The name stands outside of quotes: a shell takes what is quoted whole for a command.
    variables = (f"TRUSTTRACE_{name.upper()}={shlex.quote(value)} " for name, value in settings.items())
    return f"{''.join(variables)}make serve"
