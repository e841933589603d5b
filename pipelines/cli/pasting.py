"""Pasting: the commands that messages name, such that they work as they are pasted."""

import shlex

from pipelines.cli.parameters import Options


def mlflow_run(entry_point: str, *groups: Options, **values: str) -> str:
    """The command that runs ``entry_point`` with ``values``, and with what ``groups`` hold beside their defaults."""
    for options in groups:
        defaults = type(options)().params()
        values |= {name: text for name, text in options.params().items() if text != defaults[name]}
    parameters = (f" -P {shlex.quote(f'{name}={value}')}" for name, value in values.items())
    return f"mlflow run . -e {entry_point} --env-manager local{''.join(parameters)}"
