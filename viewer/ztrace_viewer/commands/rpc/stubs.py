"""A service as a typed interface in Python, which mypy and editors read.

One idea: annotations are texts of a peer, and name classes of its program. Names that every Python program
has are kept, with their imports, and any other is ``Any``.
"""

import ast
import keyword
import re

from ztrace_viewer.commands.rpc.services import REQUIRED, Kind, Method, Parameter, Service, list_parameters
from ztrace_viewer.terminal.characters import split_lines

#: Modules from which names are kept.
_MODULES = ("collections.abc", "datetime", "decimal", "fractions", "pathlib", "typing", "uuid")
#: Module of names that programs import.
_IMPORTED = {
    name: module
    for module, names in {
        "collections.abc": "AsyncGenerator AsyncIterable AsyncIterator Callable Collection Container"
        " Generator Iterable Iterator Mapping MutableMapping Sequence Set",
        "typing": "Any Dict FrozenSet List Literal Optional Tuple Union",
    }.items()
    for name in names.split()
}
#: Built-in classes that are kept.
_BUILTINS = frozenset(
    [
        "bool",
        "bytearray",
        "bytes",
        "complex",
        "dict",
        "float",
        "frozenset",
        "int",
        "list",
        "object",
        "range",
        "set",
        "str",
        "tuple",
    ]
)
_ANY = "typing.Any"
#: Annotation of a stream, without the type of its items
_STREAM = re.compile(r"(?:typing|collections\.abc)\.(?:Async)?(?:Iterator|Iterable|Generator)\[")


def write_stub(service: Service) -> str:
    """Return the module of an interface: a Protocol for `rpc.Client`, and one for `rpc.AsyncClient`."""
    writer = _Writer(set(service.methods))
    name = re.sub(r"\W", "", service.name.replace("_", " ").title().replace(" ", ""))
    if not name.isidentifier() or keyword.iskeyword(name):
        name = "Service"
    classes: list[str] = []
    for prefix, is_async in (("", False), ("Async", True)):
        lines = [line for method in service.methods.values() for line in writer.write(method, is_async)]
        classes += ["", "", f"class {prefix}{name}(typing.Protocol):", *lines]
        # A class of comments alone is no Python.
        classes += [] if any(not line.startswith("    #") for line in lines) else ["    ..."]
    head = [f'"""Interface of {_write_doc(service.name)}, as the server describes it."""', ""]
    head += [f"import {module}" for module in sorted({*writer.imports, "typing"})]
    return "\n".join([*head, *classes, ""])


class _Writer:
    """Writer of methods, which collects the modules to import."""

    def __init__(self, methods: set[str]) -> None:
        self.imports: set[str] = set()
        #: Names that stand for something else within the class.
        self._hidden = methods

    def write(self, method: Method, is_async: bool) -> list[str]:
        """Return the lines of a method, as it is called by one of the two clients."""
        if not method.name.isidentifier() or keyword.iskeyword(method.name):
            return [f"    # {method.name!a} is called by its name in call()"]
        returns, start = self._annotate(method.returns), "async def" if is_async else "def"
        if method.is_stream:
            self.imports.add("collections.abc")
            kind, start = "AsyncIterator" if is_async else "Iterator", "def"
            returns = f"collections.abc.{kind}[{_item_of(returns)}]"
        head = f"    {start} {method.name}({self._list(method)}) -> {returns}:"
        if not method.doc:
            return [f"{head} ..."]
        return [head, f'        """{_write_doc(method.doc)}"""', "        ..."]

    def _list(self, method: Method) -> str:
        parameters = method.parameters
        if parameters is None or not _are_distinct(parameters):
            return f"self, *args: {_ANY}, **kwargs: {_ANY}"
        return ", ".join(["self", *list_parameters(parameters, self._declare)])

    def _declare(self, parameter: Parameter) -> str:
        default = "" if parameter.default is REQUIRED else " = ..."
        return f"{parameter.name}: {self._annotate(parameter.annotation)}{default}"

    def _annotate(self, text: str | None) -> str:
        """Return an annotation whose names are all known."""
        try:
            return self._convert(ast.parse(text or "", mode="eval").body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return _ANY

    def _convert(self, node: ast.expr) -> str:
        match node:
            case ast.Constant(value=None):
                return "None"
            case ast.Constant(value=str(text)):
                return self._annotate(text)
            case ast.Name() | ast.Attribute():
                return self._name(ast.unparse(node))
            case ast.BinOp(op=ast.BitOr()):
                sides = self._convert(node.left), self._convert(node.right)
                return _ANY if _ANY in sides else " | ".join(sides)
            case ast.Subscript():
                return self._convert_subscript(node)
        return _ANY

    def _convert_subscript(self, node: ast.Subscript) -> str:
        base = self._convert(node.value)
        if base in (_ANY, "None"):
            return _ANY
        if base == "typing.Literal":
            return f"{base}[{ast.unparse(node.slice)}]" if _is_literal(node.slice) else _ANY
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return f"{base}[{', '.join(self._convert_part(part) for part in parts)}]"

    def _convert_part(self, part: ast.expr) -> str:
        if isinstance(part, ast.Constant) and part.value is ...:
            return "..."
        if isinstance(part, ast.List):
            return f"[{', '.join(map(self._convert, part.elts))}]"
        return self._convert(part)

    def _name(self, name: str) -> str:
        module, _, last = name.rpartition(".")
        if not module and name in _BUILTINS:
            if name not in self._hidden:
                return name
            module = "builtins"
        module = module or _IMPORTED.get(name, "")
        if module != "builtins" and (module not in _MODULES or not last.isidentifier()):
            return _ANY
        if module in ("typing", "collections.abc") and _IMPORTED.get(last) is None:
            return _ANY
        self.imports.add(module)
        return f"{module}.{last}"


def _item_of(stream: str) -> str:
    """Return the type of a stream's items, by the annotation of the stream."""
    if not _STREAM.match(stream):
        return _ANY
    node = ast.parse(stream, mode="eval").body
    assert isinstance(node, ast.Subscript)
    return ast.unparse(node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice)


def _are_distinct(parameters: tuple[Parameter, ...]) -> bool:
    """Return whether parameters can stand in one ``def``, beside ``self``."""
    names = {each.name for each in parameters} | {"self"}
    kinds = [each.kind for each in parameters]
    optional = [
        each.default is not REQUIRED for each in parameters if each.kind <= Kind.POSITIONAL_OR_KEYWORD
    ]
    single = all(kinds.count(kind) <= 1 for kind in (Kind.VAR_POSITIONAL, Kind.VAR_KEYWORD))
    return (
        len(names) == len(parameters) + 1
        and kinds == sorted(kinds)
        and optional == sorted(optional)
        and single
    )


def _is_literal(node: ast.expr) -> bool:
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return all(isinstance(part, ast.Constant) and isinstance(part.value, (str, int, bytes)) for part in parts)


def _write_doc(text: str | None) -> str:
    """Return text that can stand in a docstring, its lines indented."""
    written = (text or "").replace("\\", "\\\\").replace('"', '\\"')
    lines = ["".join(filter(str.isprintable, line)).rstrip() for line in split_lines(written)]
    return "\n".join(f"        {line}" if number and line else line for number, line in enumerate(lines))
