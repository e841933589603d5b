"""Documentation page: the OpenAPI document as one page of plain HTML, without scripts and without any other host."""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

Json = Mapping[str, Any]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b }
h2 { margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: 1rem }
code, pre { font: 14px/1.4 ui-monospace, monospace }
code, td { overflow-wrap: anywhere }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem; border-bottom: 1px solid #e2e2e2 }
@media (prefers-color-scheme: dark) {
  body { background: #161616; color: #eee }
  pre { background: #252525 }
  a { color: #8ab4f8 }
}
"""


def docs_page(document: Json) -> str:
    """The page of an OpenAPI document; its texts are escaped."""
    schemas = document.get("components", {}).get("schemas", {})
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    contents = "".join(
        f'<li><a href="#{_anchor(method, path)}"><code>{method} {escape(path)}</code></a> '
        f"{_text(operation, 'summary')}</li>"
        for method, path, operation in operations
    )
    sections = "".join("".join(_section(*operation, schemas)) for operation in operations)
    title = escape(document["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body><h1>{title} API</h1>'
        f'<p>{_text(document["info"], "description")}</p><p><a href="/docs.json">OpenAPI document</a>, '
        f'<a href="/">playground</a></p><ul>{contents}</ul>{sections}</body></html>'
    )


def example_of(schema: Json, schemas: Json, depth: int = 0) -> Any:
    """A value that a schema allows: its first example, else its fields that are required or have examples."""
    schema = _resolved(schema, schemas)
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema or "enum" in schema:
        return schema.get("const", next(iter(schema.get("enum", [])), None))
    options = [option for option in schema.get("anyOf", schema.get("oneOf", [])) if option.get("type") != "null"]
    if options:
        return example_of(options[0], schemas, depth)
    if "properties" in schema and depth < 6:
        required = schema.get("required", [])
        shown = {name: field for name, field in schema["properties"].items() if name in required or "examples" in field}
        return {name: example_of(field, schemas, depth + 1) for name, field in shown.items()}
    by_type = {"string": "…", "integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}
    return by_type.get(schema.get("type", ""))


def _section(method: str, path: str, operation: Json, schemas: Json) -> Iterator[str]:
    yield f'<h2 id="{_anchor(method, path)}"><code>{method} {escape(path)}</code></h2>'
    yield f"<p><strong>{_text(operation, 'summary')}.</strong> {_text(operation, 'description')}</p>"
    parameters = operation.get("parameters", [])
    if parameters:
        yield _table(
            ("parameter", "in", "type", ""),
            [
                (given["name"], given["in"], _type(given["schema"]), given.get("description", ""))
                for given in parameters
            ],
        )
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body is not None:
        example = json.dumps(example_of(body, schemas), ensure_ascii=False, indent=2)
        yield f"<pre>{escape(example)}</pre>{_fields(_resolved(body, schemas))}"
    yield _table(
        ("status", "answer"),
        [(status, answer.get("description", "")) for status, answer in operation["responses"].items()],
    )


def _fields(schema: Json) -> str:
    required = schema.get("required", [])
    rows = [
        (name + (" *" if name in required else ""), _type(field), field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]
    return _table(("field (* required)", "type", ""), rows) if rows else ""


def _type(schema: Json) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    options = schema.get("anyOf", schema.get("oneOf"))
    if options:
        return " or ".join(dict.fromkeys(map(_type, options)))
    if "const" in schema or "enum" in schema:
        return ", ".join(json.dumps(value) for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def _resolved(schema: Json, schemas: Json) -> Json:
    reference = schema.get("$ref")
    found: Json = schema if reference is None else schemas[str(reference).rpartition("/")[2]]
    return found


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{lines}</table>"


def _anchor(method: str, path: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in f"{method}{path}").lower()


def _text(values: Json, name: str) -> str:
    return escape(str(values.get(name) or ""))
