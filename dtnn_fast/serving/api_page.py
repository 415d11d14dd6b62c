# SPDX-License-Identifier: MIT
"""The page of the REST interface, made from its OpenAPI description: plain HTML without scripts."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from starlette.responses import Response

_STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #19212d; }
h2 { margin-top: 2.2rem; } code, pre { font: 0.88em/1.45 ui-monospace, Menlo, Consolas, monospace; }
pre { background: #f4f5f7; padding: 0.8rem 1rem; border-radius: 8px; overflow: auto; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid #dde2e9; }
.method { color: #2a6f97; font-weight: 700; }
@media (prefers-color-scheme: dark) { body { background: #10141a; color: #e7ebf1; } pre { background: #1e2530; }
td, th { border-color: #2c3543; } a, .method { color: #8cc8ee; } }
"""
_EXAMPLES = """curl -F files=@NaCl.cif -F files=@POSCAR http://127.0.0.1:8000/v1/predict

curl -H "Content-Type: application/json" http://127.0.0.1:8000/v1/predict \\
  -d '{"crystals": [{"name": "NaCl.cif", "text": "data_NaCl ..."}], "include": ["neighbors"]}'
"""


def render_api_page(description: Mapping[str, Any]) -> Response:
    """Make the page.

    Args:
        description: the service by OpenAPI.
    """
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
    text = "\n".join(_lines(description))
    return Response(text, media_type="text/html", headers={"content-security-policy": policy})


def _lines(description: Mapping[str, Any]) -> Iterator[str]:
    title = f"{description['info']['title']} {description['info']['version']}: REST interface"
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
    yield f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
    yield f"<h1>{html.escape(title)}</h1><p>{html.escape(description['info'].get('description', ''))}</p>"
    yield '<p>The description for programs is <a href="openapi.json">openapi.json</a>.</p>'
    yield f"<pre>{html.escape(_EXAMPLES)}</pre>"
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield f'<h2><span class="method">{method.upper()}</span> <code>{html.escape(path)}</code></h2>'
            yield f"<p>{html.escape(operation.get('summary', ''))}</p>"
            body = operation.get("requestBody", {}).get("content", {})
            bodies = [(kind, _type_of(content["schema"])) for kind, content in body.items()]
            yield _table(("body", "content"), bodies)
            answers = operation["responses"].items()
            yield _table(("status", "meaning"), [(code, answer.get("description", "")) for code, answer in answers])
    yield "<h2>Objects</h2>"
    for name, schema in sorted(description["components"]["schemas"].items()):
        yield f'<h3 id="{html.escape(name)}"><code>{html.escape(name)}</code></h3>'
        yield f"<p>{html.escape(schema.get('description', ''))}</p>"
        if "enum" in schema:
            yield f"<p>{html.escape(', '.join(map(json.dumps, schema['enum'])))}</p>"
        properties = schema.get("properties", {})
        required = schema.get("required", ())
        rows = [
            (key, _type_of(value), value.get("description", "") + ("" if key in required else " (may be left out)"))
            for key, value in properties.items()
        ]
        yield _table(("name", "type", "meaning"), rows)
    yield "</body></html>"


def _table(names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    cells = ("".join(f"<td>{html.escape(text)}</td>" for text in row) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return f"<table><tr>{head}</tr>{body}</table>" if rows else ""


def _type_of(schema: Mapping[str, Any]) -> str:
    """Write the type of a value in a few words."""
    extra, items = schema.get("additionalProperties"), schema.get("prefixItems")
    if "$ref" in schema:
        text = str(schema["$ref"]).rsplit("/", 1)[-1]
    elif union := schema.get("anyOf") or schema.get("oneOf"):
        text = " or ".join(dict.fromkeys(map(_type_of, union)))
    elif "const" in schema:
        text = json.dumps(schema["const"])
    elif items:
        text = f"{len(items)} x {_type_of(items[0])}"
    elif "items" in schema:
        text = f"list of {_type_of(schema['items'])}"
    elif isinstance(extra, Mapping):
        text = f"object of {_type_of(extra)}"
    elif "properties" in schema:
        text = "fields " + ", ".join(f"{name}: {_type_of(value)}" for name, value in schema["properties"].items())
    else:
        text = str(schema.get("type", "anything"))
    return text
