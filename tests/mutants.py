"""Mutants: a module with one passage of its source replaced, to show that a table test tells the two apart."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType


@contextmanager
def mutant(module: ModuleType, passage: str, replacement: str) -> Iterator[ModuleType]:
    """``module`` loaded anew under another name, with the only occurrence of ``passage`` replaced."""
    source = Path(str(module.__file__)).read_text()
    assert source.count(passage) == 1, f"{passage!r} occurs {source.count(passage)} times in {module.__name__}"
    name = f"{module.__package__}.mutant" if module.__package__ else "mutant"  # where relative imports lead
    spec = importlib.util.spec_from_loader(name, loader=None)
    assert spec is not None
    changed = importlib.util.module_from_spec(spec)
    sys.modules[name] = changed
    try:
        exec(compile(source.replace(passage, replacement), str(module.__file__), "exec"), changed.__dict__)
        yield changed
    finally:
        del sys.modules[name]
