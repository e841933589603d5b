"""Parameters of a command: the fields of a frozen dataclass, read from its command line and logged to MLflow.

    @dataclass(frozen=True)
    class ProbeOptions(Options):
        series: SeriesOptions = group(SeriesOptions("tiny", "log:12"))
        keep_activations: bool = parameter(False, "true keeps activations, a file per unit, in the cache")

A parameter's name, default and help stand in its field alone. A field that holds a dataclass is a group of parameters,
so that a concept is worded once and composed into every command that has it. MLflow passes all values as text.
"""

import argparse
import math
import shlex
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from registry.errors import InvalidInput, unknown_name

OptionsT = TypeVar("OptionsT", bound="Options")
SEEDS = 2**32
"""How many there are to scikit-learn; NumPy and torch have more."""


def parameter(default: Any, help: str, *, none: str = "none") -> Any:
    """A field that is a parameter; ``none`` is the word for ``None`` or for no parts."""
    return field(default=default, metadata={"help": help, "none": none})


def group(default: Any, *, only: Sequence[str] = ()) -> Any:
    """A field that holds a group of parameters with this command's defaults, a dataclass or what makes it.

    Where ``only`` names some, the others are no parameters of this command.
    """
    metadata = {"only": tuple(only)}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


class Options:
    """Base of a dataclass of parameters: a field of literals holds one of them, a ``seed`` what every library takes."""

    def __post_init__(self) -> None:
        seed = getattr(self, "seed", 0)
        if not 0 <= seed < SEEDS:
            raise InvalidInput(f"`seed` is {seed}; give a whole number from 0 to {SEEDS - 1}")
        for name, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal and getattr(self, name) not in get_args(kind):
                raise unknown_name(name, getattr(self, name), get_args(kind))

    def params(self) -> dict[str, str]:
        """Every parameter as text, by name: what the command line would say, for MLflow."""
        return {parameter.name: parameter.to_text() for parameter in parameters_of(self)}


@dataclass(frozen=True)
class Parameter:
    """One parameter and the value that it has."""

    name: str
    kind: Any
    value: Any
    help: str
    none: str

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    def to_text(self) -> str:
        if self.value is None or self.value == ():
            return self.none
        if isinstance(self.value, bool):
            return str(self.value).lower()
        return ",".join(self.value) if isinstance(self.value, tuple) else str(self.value)

    def from_text(self, text: str) -> Any:
        """The value that ``text`` stands for. Raises ``InvalidInput``."""
        kind, optional = self.kind, get_origin(self.kind) in (types.UnionType, tuple)
        if optional and text == self.none:
            return () if get_origin(kind) is tuple else None
        if get_origin(kind) is tuple:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if get_origin(kind) is types.UnionType:
            (kind,) = set(get_args(kind)) - {types.NoneType}
        if kind is bool:
            if text not in ("true", "false"):
                raise unknown_name(f"value of {self.name}", text, ("true", "false"))
            return text == "true"
        try:
            return _number(kind, text) if kind in (int, float) else text
        except ValueError as error:
            number = "a whole number" if kind is int else "a number, such as 1e-4"
            raise InvalidInput(
                f"`{self.name}` is {text!r}; give {f'{self.none} or ' if optional else ''}{number}"
            ) from error


def _number(kind: type[int] | type[float], text: str) -> int | float:
    """Raises ``ValueError`` for what is no number; infinity and NaN are none, for no comparison with them refuses."""
    value = kind(text)
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{value} is no number")
    return value


def parameters_of(options: Any, only: Sequence[str] = ()) -> Iterator[Parameter]:
    """The parameters of ``options`` with their values, those of groups in place."""
    kinds = get_type_hints(type(options))
    for name, metadata in _metadata(options, only):
        value = getattr(options, name)
        if is_dataclass(value) and "only" in metadata:
            yield from parameters_of(value, metadata["only"])
        elif "help" in metadata:
            yield Parameter(name, kinds[name], value, metadata["help"], metadata.get("none", "none"))


def _metadata(options: Any, only: Sequence[str]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(field.name, field.metadata) for field in fields(options) if not only or field.name in only]


def parse(
    kind: type[OptionsT], command: str, description: str | None, arguments: Sequence[str] | None = None
) -> OptionsT:
    """The options of ``python -m pipelines.<command>``, whose module's text is its description.

    Raises ``UnknownName`` for a parameter that the command lacks, abbreviations included, and ``InvalidInput`` for a
    value without a parameter or a parameter without a value.
    """
    parser = argparse.ArgumentParser(
        prog=f"pipelines.{command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        exit_on_error=False,
    )
    known, given = list(parameters_of(kind())), sys.argv[1:] if arguments is None else arguments
    for parameter in known:
        help = parameter.help.replace("%", "%%")
        parser.add_argument(parameter.flag, default=parameter.to_text(), help=f"{help} [%(default)s]")
    try:
        values, unknown = parser.parse_known_args([_with_dashes(part) for part in given])
    except argparse.ArgumentError as error:
        raise InvalidInput(f"`{error.argument_name}` has no value; write {error.argument_name}=<value>") from error
    if unknown and not unknown[0].startswith("-"):
        raise InvalidInput(
            f"{unknown[0]!r} is no parameter of {command}; name the parameter that it is for, such as {known[0].flag} "
            f"{shlex.quote(unknown[0])}"
        )
    if unknown:
        name = unknown[0].lstrip("-").partition("=")[0].replace("-", "_")
        raise unknown_name(f"parameter of {command}", name, [parameter.name for parameter in known])
    return with_values(kind(), vars(values))


def _with_dashes(argument: str) -> str:
    """``--device_map=auto`` as ``--device-map=auto``: MLproject and this manual write names with underscores."""
    name, equals, value = argument.partition("=")
    return f"{name.replace('_', '-')}{equals}{value}" if name.startswith("--") else argument


def with_values(options: OptionsT, texts: Mapping[str, str]) -> OptionsT:
    """``options`` with the parameters that ``texts`` names."""
    changed: OptionsT = _with_values(options, texts, ())
    return changed


def _with_values(options: Any, texts: Mapping[str, str], only: Sequence[str]) -> Any:
    known = {parameter.name: parameter for parameter in parameters_of(options, only)}
    changes: dict[str, Any] = {}
    for name, metadata in _metadata(options, only):
        value = getattr(options, name)
        if is_dataclass(value) and "only" in metadata:
            changes[name] = _with_values(value, texts, metadata["only"])
        elif name in known and name in texts:
            changes[name] = known[name].from_text(texts[name])
    return replace(options, **changes)
