"""Schemas: whether a text that ends can fit one, and how deep its definitions lead into each other.

A grammar follows a schema token by token, and does not see where none can end: an object that requires itself would go
on as ``{"a":{"a":{"a":`` until the answer is full. It is compiled by recursion, and a chain of some 800 definitions
overflows the stack of its thread, which ends the process.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
MOST_LEVELS = 1000
"""Levels of definitions within each other that a schema may have. With llguidance 1.9.1 and a stack of 8 MiB, those of
2,286 and more overflow it."""
MOST_PARTS = 50_000
"""Parts of a schema that are looked at; of a larger one nothing is said."""


def endless_part(schema: object) -> str | None:
    """The place of a part that any text which fits would need without end, as a JSON pointer; ``None`` where there is
    none. What is unknown here, such as a reference to elsewhere, counts as fitting.
    """
    parts = _Parts(schema)
    return parts.endless() if parts.unfit else None


def levels(schema: object) -> int:
    """How many levels a walk through a schema can be in at once, at most: its own, and those of each definition that is
    referred to, once.
    """
    nodes, parents, references = [schema], [-1], set[str]()
    for place, node in enumerate(nodes):
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        if isinstance(node, dict):
            references |= {node[name] for name in REFERENCES if isinstance(node.get(name), str)}
        for part in inner:
            if isinstance(part, dict | list):
                nodes.append(part)
                parents.append(place)
    heights = [1] * len(nodes)
    for place in range(len(nodes) - 1, 0, -1):
        heights[parents[place]] = max(heights[parents[place]], heights[place] + 1)
    by_node = {id(node): height for node, height in zip(nodes, heights, strict=True)}
    found = [_resolved(schema, reference) for reference in references]
    targets, elsewhere = {id(node) for node in found}, sum(node is None for node in found)
    return heights[0] * (1 + elsewhere) + sum(by_node.get(target, 0) for target in targets)


class _Parts:
    """Each part of a schema as a node that a text fits once so many of the nodes that it needs have been fitted."""

    def __init__(self, root: object) -> None:
        self._root = root
        self._missing: list[int] = []
        self._needs: list[Sequence[int]] = []
        self._places: dict[int, str] = {}
        self._nodes: dict[int, int] = {}
        """Of schemas, by their identity as objects."""
        self._unread: list[tuple[int, Any, str]] = []
        self._node(root, "#")
        while self._unread and len(self._needs) <= MOST_PARTS:
            node, schema, place = self._unread.pop()
            needed = self._needed(schema, place)
            self._needs[node], self._missing[node] = needed, len(needed)
        self._fit()

    @property
    def unfit(self) -> bool:
        """Whether no text fits the whole."""
        return not self._unread and self._missing[0] > 0

    def endless(self) -> str:
        """The place from which a part of the unfit whole leads back to itself, or to what nothing fits."""
        node, seen, place = 0, set[int](), "#"
        while node not in seen:
            seen.add(node)
            place = self._places.get(node, place)
            node = next((needed for needed in self._needs[node] if self._missing[needed] > 0), node)
        return place

    def _fit(self) -> None:
        needed_by: list[list[int]] = [[] for _ in self._needs]
        for node, needed in enumerate(self._needs):
            for other in needed:
                needed_by[other].append(node)
        fitted = [node for node, missing in enumerate(self._missing) if missing == 0]
        while fitted:
            for node in needed_by[fitted.pop()]:
                self._missing[node] -= 1
                if self._missing[node] == 0:
                    fitted.append(node)

    def _some(self, needed: Sequence[int], fewest: int) -> int:
        """A node that needs ``fewest`` of these."""
        self._missing.append(fewest)
        self._needs.append(needed)
        return len(self._needs) - 1

    def _node(self, schema: object, place: str) -> int:
        if id(schema) not in self._nodes or not isinstance(schema, dict):
            node = self._some((), 1 if schema is False else 0)
            self._nodes[id(schema)], self._places[node] = node, place
            if isinstance(schema, dict):
                self._missing[node] = 1
                self._unread.append((node, schema, place))
            return node
        return self._nodes[id(schema)]

    def _needed(self, schema: Mapping[str, Any], place: str) -> list[int]:
        """Every node that a text must fit to fit this schema."""
        needed = [self._node(part, f"{place}/allOf/{number}") for number, part in enumerate(_list(schema, "allOf"))]
        reference = str(schema.get("$ref"))
        target = _resolved(self._root, reference)
        if target is not None:
            needed.append(self._node(target, reference))
        for name in ("anyOf", "oneOf"):
            parts = [self._node(part, f"{place}/{name}/{number}") for number, part in enumerate(_list(schema, name))]
            if parts:
                needed.append(self._some(parts, 1))
        kinds = schema.get("type")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if schema.keys().isdisjoint({"const", "enum"}) and kinds and {*map(str, kinds)} <= {"object", "array"}:
            of_kinds = {"object": self._of_object, "array": self._of_array}
            each = [of_kinds[kind](schema, place) for kind in kinds]
            needed.append(self._some([self._some(of_kind, len(of_kind)) for of_kind in each], 1))
        return needed

    def _of_object(self, schema: Mapping[str, Any], place: str) -> list[int]:
        named, others = schema.get("properties"), schema.get("additionalProperties")
        named = named if isinstance(named, dict) else {}
        needed = []
        for name in filter(named.__contains__, _texts(schema, "required")):
            needed.append(self._node(named[name], f"{place}/properties/{name}"))
        if "patternProperties" in schema:
            return needed
        if isinstance(others, dict) and any(name not in named for name in _texts(schema, "required")):
            needed.append(self._node(others, f"{place}/additionalProperties"))
        fewest = _count(schema, "minProperties")
        if fewest and (others is False or isinstance(others, dict)):
            parts = [self._node(part, f"{place}/properties/{name}") for name, part in named.items()]
            rest = [] if others is False else [self._node(others, f"{place}/additionalProperties")]
            needed.append(self._some([*rest, self._some(parts, fewest)], 1))
        return needed

    def _of_array(self, schema: Mapping[str, Any], place: str) -> list[int]:
        fewest, first, rest = _count(schema, "minItems"), _list(schema, "prefixItems"), schema.get("items")
        needed = [self._node(part, f"{place}/prefixItems/{number}") for number, part in enumerate(first[:fewest])]
        if fewest > len(first) and isinstance(rest, dict):
            needed.append(self._node(rest, f"{place}/items"))
        return needed


def _resolved(root: object, reference: object) -> Any:
    """What a reference within a schema stands for; ``None`` where it is none."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return None
    target: Any = root
    for part in reference.split("/")[1:]:
        name = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(target, dict) and name in target:
            target = target[name]
        elif isinstance(target, list) and INDEX.fullmatch(name) and int(name) < len(target):
            target = target[int(name)]
        else:
            return None
    return target


def _list(schema: Mapping[str, Any], name: str) -> list[Any]:
    value = schema.get(name)
    return value if isinstance(value, list) else []


def _texts(schema: Mapping[str, Any], name: str) -> list[str]:
    return [value for value in _list(schema, name) if isinstance(value, str)]


def _count(schema: Mapping[str, Any], name: str) -> int:
    value = schema.get(name)
    return int(min(value, MOST_PARTS)) if isinstance(value, int | float) and value > 0 else 0
