"""A service as an OpenRPC document.

Source: https://spec.open-rpc.org, version 1.3.2.
"""

import ast
import json

from ztrace_viewer.commands.rpc.services import REQUIRED, Kind, Method, Parameter, Service
from ztrace_viewer.commands.rpc.words import write_result

#: Types of JSON Schema by Python's names.
_TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "None": "null",
    "list": "array",
    "tuple": "array",
    "set": "array",
    "dict": "object",
    "Sequence": "array",
    "Mapping": "object",
}


def write_openrpc(service: Service, address: str) -> str:
    """Return the document, indented."""
    document = {
        "openrpc": "1.3.2",
        "info": {"title": service.name, "version": "0"},
        "servers": [{"name": service.name or address, "url": address}],
        "methods": [_describe(method) for method in service.methods.values()],
    }
    return f"{json.dumps(document, indent=2)}\n"


def _describe(method: Method) -> dict[str, object]:
    document: dict[str, object] = {"name": method.name}
    if method.doc:
        document["summary"] = method.doc.partition("\n")[0]
        document["description"] = method.doc
    document["paramStructure"] = "either" if method.keywords else "by-position"
    document["params"] = [_describe_parameter(each) for each in method.parameters or ()]
    document["result"] = {
        "name": "items" if method.is_stream else "result",
        "schema": _find_schema(method.returns),
    }
    return document


def _describe_parameter(parameter: Parameter) -> dict[str, object]:
    schema = _find_schema(parameter.annotation)
    if parameter.kind in (Kind.VAR_POSITIONAL, Kind.VAR_KEYWORD):
        is_list = parameter.kind is Kind.VAR_POSITIONAL
        schema = {"type": "array", "items": schema} if is_list else {"type": "object"}
        return {"name": parameter.name, "required": False, "schema": schema}
    required = parameter.default is REQUIRED
    if not required:
        schema = {**schema, "default": json.loads(write_result(parameter.default, as_json=True))}
    return {"name": parameter.name, "required": required, "schema": schema}


def _find_schema(annotation: str | None) -> dict[str, object]:
    """Return the schema of an annotation, empty if it says nothing in JSON's terms."""
    try:
        return _convert(ast.parse(annotation or "", mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def _convert(node: ast.expr) -> dict[str, object]:
    match node:
        case ast.Constant(value=None):
            return {"type": "null"}
        case ast.Constant(value=str(text)):
            return _find_schema(text)
        case ast.Name() | ast.Attribute():
            name = ast.unparse(node).rpartition(".")[2]
            return {"type": _TYPES[name]} if name in _TYPES else {}
        case ast.BinOp(op=ast.BitOr()):
            sides = [_convert(node.left), _convert(node.right)]
            return {"anyOf": sides} if all(sides) else {}
        case ast.Subscript():
            return _convert_subscript(node)
    return {}


def _convert_subscript(node: ast.Subscript) -> dict[str, object]:
    base = ast.unparse(node.value).rpartition(".")[2]
    if base == "Optional":
        inner = _convert(node.slice)
        return {"anyOf": [inner, {"type": "null"}]} if inner else {}
    schema = _convert(node.value)
    if (
        schema.get("type") == "array"
        and not isinstance(node.slice, ast.Tuple)
        and (items := _convert(node.slice))
    ):
        return {**schema, "items": items}
    return schema
