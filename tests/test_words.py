"""Words of the code, held by a ratchet: what `tests/words.toml` allows a room may only become less.

`python tests/test_words.py` lists every place that breaks a rule.
"""

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("registry", "serving", "pipelines")
VERBS = {"told", "asked", "found", "said"}
CLAUSE = re.compile(r"(What|From|Whether|How|When|Which|Who|Where)\b")
PASTED = re.compile(r"mlflow run \.(?![^\n`]*--env-manager (local|uv))")
PLURAL = re.compile(r" (?:(?!of\b|was\b|is\b)[a-z-]+ )?(?!has\b|was\b|is\b|its\b|as\b|series\b)[a-z-]+(?<!s)s\b")
MOST_WORDS = 10


@dataclass(frozen=True)
class Place:
    """A line that breaks a rule."""

    rule: str
    path: Path
    line: int
    words: str

    @property
    def room(self) -> str:
        """The folder two levels deep, or the package for a module directly in it; a class name is taken everywhere."""
        if self.rule == "class":
            return "all"
        return "/".join(self.path.relative_to(ROOT).parent.parts[:2])

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.rule}: {self.words}"


def loops_over_one(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """A loop variable carries the noun."""
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            for name in ast.walk(node.target):
                if isinstance(name, ast.Name) and name.id == "one":
                    yield name.lineno, ast.unparse(node.iter)


def clauses_as_docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """A module docstring begins with the noun that the file is named by."""
    docstring = ast.get_docstring(tree) or ""
    if CLAUSE.match(docstring) or (tree.body and not docstring):
        yield 1, docstring.splitlines()[0] if docstring else "no docstring"


def verbs_as_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """A public function and its parameters are named by nouns and by what they do."""
    scopes = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    functions = [node for scope in scopes for node in scope.body if isinstance(node, ast.FunctionDef)]
    for function in functions:
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        names = {function.name, *(argument.arg for argument in arguments)}
        if not function.name.startswith("_") and names & VERBS:
            yield function.lineno, f"{function.name}: {', '.join(sorted(names & VERBS))}"


def commands_without_environment(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """A command works where it is pasted: without conda `mlflow run` needs to be told which Python to use."""
    pieces = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and node not in pieces):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)
            yield from ((node.lineno, text[match.start() :][:60]) for match in PASTED.finditer(text))


def counts_before_plurals(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """A number with its noun is `counted`, for there may be one: not "1 checkpoints"."""
    for node in ast.walk(tree):
        for number, after in pairwise(node.values) if isinstance(node, ast.JoinedStr) else ():
            if isinstance(number, ast.FormattedValue) and isinstance(after, ast.Constant):
                written = ast.unparse(number.value)
                if "len(" in written and "counted(" not in written and PLURAL.match(str(after.value)):
                    yield node.lineno, f"{written}{after.value}"[:60]


def loading_without_refusing_code(source: str) -> Iterator[tuple[int, str]]:
    """`trust_remote_code=False` is written where a model is loaded, on the same line."""
    for number, line in enumerate(source.splitlines(), 1):
        if "from_pretrained(" in line and "trust_remote_code=False" not in line:
            yield number, line.strip()


def long_test_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """A test's name says the fact in at most ten words."""
    scopes = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    for node in (node for scope in scopes for node in scope.body):
        name = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else ""
        if name.startswith("test_") and name.count("_") > MOST_WORDS:
            yield node.lineno, name


def classes_with_a_taken_name(trees: dict[Path, ast.Module]) -> Iterator[tuple[Path, int, str]]:
    """One thing, one type, one name: no two public classes share theirs."""
    taken: dict[str, Path] = {}
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                if node.name in taken:
                    yield path, node.lineno, f"{node.name} is in {taken[node.name].relative_to(ROOT)} too"
                taken.setdefault(node.name, path)


EVERYWHERE = {"one": loops_over_one}
IN_PACKAGES = {
    "docstring": clauses_as_docstrings,
    "verb": verbs_as_names,
    "command": commands_without_environment,
    "count": counts_before_plurals,
}
IN_TESTS = {"test name": long_test_names}
BROKEN_WITH = {
    "one": re.compile(r"\bone\b"),
    "command": re.compile("mlflow"),
    "count": re.compile(r"len\("),
    "test name": re.compile(rf"def test(_[^\W_]*){{{MOST_WORDS + 1}}}"),
}
"""What stands in a module that breaks a rule: in others no tree need be walked."""
RULES = (*EVERYWHERE, *IN_PACKAGES, *IN_TESTS, "loading", "class")


@cache
def places() -> tuple[Place, ...]:
    """Every place in the code and its tests that breaks a rule."""
    broken: list[Place] = []
    trees: dict[Path, ast.Module] = {}
    for room in (*PACKAGES, "tests"):
        for path in sorted((ROOT / room).rglob("*.py")):
            source = path.read_text()
            rules = EVERYWHERE | (IN_TESTS if room == "tests" else IN_PACKAGES)
            near = {rule for rule in rules if rule not in BROKEN_WITH or BROKEN_WITH[rule].search(source)}
            if room == "tests" and not near:
                continue
            tree = ast.parse(source)
            broken += [Place(rule, path, *place) for rule in near for place in rules[rule](tree)]
            if room != "tests":
                broken += [Place("loading", path, *place) for place in loading_without_refusing_code(source)]
                trees[path] = tree
    return (*broken, *(Place("class", *place) for place in classes_with_a_taken_name(trees)))


def allowed() -> dict[str, dict[str, int]]:
    return tomllib.loads((ROOT / "tests" / "words.toml").read_text())


@pytest.mark.parametrize("rule", RULES)
def test_no_room_breaks_a_rule_more_often_than_allowed(rule):
    rooms = Counter(place.room for place in places() if place.rule == rule)
    limits = allowed().get(rule, {})
    beyond = {room: count for room, count in rooms.items() if count > limits.get(room, 0)}
    assert not beyond, "\n" + "\n".join(str(place) for place in places() if place.rule == rule and place.room in beyond)


@pytest.mark.parametrize(
    ("rule", "source", "broken"),
    [
        (loops_over_one, "[one for one in names]", 1),
        (loops_over_one, "for key, one in pairs: pass", 1),
        (loops_over_one, "for name in names: one = name", 0),
        (clauses_as_docstrings, '"""What is stored."""', 1),
        (clauses_as_docstrings, "x = 1", 1),
        (clauses_as_docstrings, '"""Whatever-named store: values."""', 0),
        (verbs_as_names, "def read(found): pass", 1),
        (verbs_as_names, "class A:\n    def told(self): pass", 1),
        (verbs_as_names, "def _read(found): pass", 0),
        (commands_without_environment, "f'run mlflow run . -e probe -P model={name}'", 1),
        (commands_without_environment, "'run mlflow run . -e probe ' '--env-manager local'", 0),
        (loading_without_refusing_code, "AutoConfig.from_pretrained(path)", 1),
        (counts_before_plurals, "f'{len(names)} trained checkpoints'", 1),
        (counts_before_plurals, "f'{counted(len(names), word)} of {len(names)} series'", 0),
        (long_test_names, "def test_a_b_c_d_e_f_g_h_i_j_k(): pass", 1),
        (long_test_names, "def test_a_b_c_d_e_f_g_h_i_j(): pass", 0),
    ],
)
def test_a_rule_sees_what_breaks_it(rule, source, broken):
    text = source if rule is loading_without_refusing_code else ast.parse(source)
    assert len(list(rule(text))) == broken


def test_a_class_name_taken_in_another_module_is_seen():
    trees = {ROOT / name: ast.parse("class Result: pass") for name in ("a.py", "b.py")}
    assert [path.name for path, *_ in classes_with_a_taken_name(trees)] == ["b.py"]


if __name__ == "__main__":
    print(*places(), sep="\n")
    for limit, rooms in Counter((place.rule, place.room) for place in places()).most_common():
        print(f"{rooms:5} {limit[0]}: {limit[1]}")
