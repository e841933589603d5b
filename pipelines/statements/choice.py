"""Choice of dimensions: those that a user names, or with ``all`` those that the data stand for."""

import shlex
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from pipelines.statements.benchmarks import BENCHMARKS
from pipelines.statements.declared import SAFETY, SUFFIX, declared_beside, possible_name
from pipelines.statements.directory import file_for, require_file_for, stem_of
from pipelines.statements.mix import parse_mix
from pipelines.statements.tables import is_table
from registry.dimensions import DIMENSIONS, Dimension, dimension, parse_dimensions
from registry.errors import InvalidInput

_Known = Mapping[str, Dimension]


def choose_dimensions(spec: str, data: str) -> tuple[Dimension, ...]:
    """The dimensions to measure: names separated by commas, or ``all`` that ``data`` stand for.

    One file stands for one dimension, a mix for those that it names, a directory for those that it has a file or a
    declaration for, any other source for the five. Raises ``UnknownName`` for a name that is neither one of the five,
    nor ``safety``, nor declared beside the data, and ``InvalidInput`` for a file of no known dimension, with a
    declaration to paste.
    """
    sources = parse_mix(data) or {}
    path = Path(data).expanduser()
    paths = {name: Path(source).expanduser() for name, source in sources.items()}
    declared = declared_beside(paths.values() if sources else [path])
    known = {**DIMENSIONS, SAFETY.name: SAFETY, **declared}
    if spec.strip() == "all":
        return _dimensions_of(data, paths, known, declared)
    names = list(dict.fromkeys(name.strip() for name in spec.split(",") if name.strip()))
    if not sources and path.is_file():
        _require_one(names, data)
        paths = dict.fromkeys(names, path)
    for name in names:
        if not get_close_matches(name, known, n=1):
            _require_known(name, paths.get(name), known)
    return parse_dimensions(spec, known.values())


def files_of_no_dimension(directory: Path) -> tuple[str, ...]:
    """Names of the data files in ``directory`` that no known dimension reads."""
    read = {*DIMENSIONS, SAFETY.name, *BENCHMARKS, *declared_beside([directory])}
    return tuple(sorted(path.name for path in directory.iterdir() if is_table(path) and stem_of(path) not in read))


def _dimensions_of(data: str, paths: Mapping[str, Path], known: _Known, declared: _Known) -> tuple[Dimension, ...]:
    path = Path(data).expanduser()
    if paths:
        for name, source in paths.items():
            _require_known(name, source, known)
        return tuple(dimension(name, known.values()) for name in paths)
    if path.is_file() and is_table(path):
        benchmark = BENCHMARKS.get(stem_of(path))
        name = benchmark.dimension if benchmark else stem_of(path)
        _require_known(name, path, known)
        return (known[name],)
    if path.is_dir():
        present = [name for name in known if file_for(path, name) or name in declared]
        if not present:
            require_file_for(path, next(iter(known)))
        return tuple(known[name] for name in present)
    return tuple(DIMENSIONS.values())


def _require_one(names: list[str], data: str) -> None:
    if len(names) > 1:
        raise InvalidInput(
            f"{data} is one file and stands for one dimension, but dimensions names {', '.join(names)}; choose one, or "
            f"give a mix of files such as data={names[0]}={data},{names[1]}=packaged"
        )


def _require_known(name: str, path: Path | None, known: _Known) -> None:
    """Raise ``InvalidInput`` for data of a dimension that nobody declared, with what declares it."""
    path = file_for(path, name) if path and path.is_dir() else path
    if name in known or path is None or not path.is_file():
        return
    proposed = possible_name(name)
    target = shlex.quote(str(path.with_name(proposed + SUFFIX)))
    again = "run the same command again" if proposed == name else "give " + shlex.quote(f"data={proposed}={path}")
    raise InvalidInput(
        f"{name!r} of {path} is no known dimension ({', '.join(known)}): choose one of these with dimensions=, or "
        f"declare your own by pasting these lines, reword them, and {again}\n"
        f"cat > {target} <<'END'\n"
        f'meaning = "what {proposed} means"\n'
        'trustworthy = "a statement of label 1"\n'
        'untrustworthy = "a statement of label 0"\n'
        "END"
    )
