"""Services as they describe themselves: ztrace's by ``_zt_inspect``, zerorpc's by ``_zerorpc_inspect``.

One idea: descriptions are answers of a peer, so nothing in them is taken for granted. What is missing or of
another type is unknown, and an unknown signature takes any arguments.
"""

import inspect
import keyword
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ztrace_viewer.terminal.characters import clean

#: Kind of a parameter, in the order in which parameters stand in a ``def``.
Kind = inspect._ParameterKind
#: Kinds of parameters by their names in a description.
_KINDS = {kind.name.lower(): kind for kind in Kind}
#: Kinds that can be given as ``name=value``.
_NAMED = (Kind.POSITIONAL_OR_KEYWORD, Kind.KEYWORD_ONLY)


class _Required:
    """Type of the default of a parameter that has none."""

    def __repr__(self) -> str:
        return "…"


#: Default of a parameter that has none.
REQUIRED = _Required()


@dataclass(frozen=True, slots=True)
class Parameter:
    """Parameter of a method; the annotation is Python's text, None if there is none."""

    name: str
    kind: Kind = Kind.POSITIONAL_OR_KEYWORD
    annotation: str | None = None
    default: object = REQUIRED


@dataclass(frozen=True, slots=True)
class Method:
    """Method of a service.

    Attributes:
        parameters: None if they are unknown: any arguments may fit.
        returns: annotation of the result, None if there is none.
        is_stream: the result is a stream of items; an old server does not say.
    """

    name: str
    doc: str | None = None
    parameters: tuple[Parameter, ...] | None = None
    returns: str | None = None
    is_stream: bool = False

    @property
    def keywords(self) -> set[str]:
        """Names of the parameters that can be given by name."""
        return {each.name for each in self.parameters or () if each.kind in _NAMED}

    def signature(self) -> str:
        """Return the method with its parameters, as in a ``def``."""
        returns = f" -> {clean(self.returns)}" if self.returns else ""
        if self.parameters is None:
            return f"{clean(self.name)}(…){returns}"
        return f"{clean(self.name)}({', '.join(list_parameters(self.parameters, _tell))}){returns}"

    def check(self, args: list[object], kwargs: Mapping[str, object]) -> str | None:
        """Return why arguments do not fit, None if they do or nothing is known."""
        if self.parameters is None:
            return None
        none = inspect.Parameter.empty
        try:
            signature = inspect.Signature(
                [
                    inspect.Parameter(
                        each.name, each.kind, default=none if each.default is REQUIRED else each.default
                    )
                    for each in self.parameters
                ]
            )
        except ValueError:
            return None
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            return str(error)
        return None


@dataclass(frozen=True, slots=True)
class Service:
    """Service at an address; ``version`` is that of ztrace's wire, 0 for a server of zerorpc."""

    name: str
    methods: Mapping[str, Method]
    version: int = 0


def read_service(answer: object) -> Service | None:
    """Return the service that an answer to ``_zt_inspect`` or ``_zerorpc_inspect`` describes.

    Returns:
        The service, None if the answer is no description.
    """
    if not isinstance(answer, dict) or not isinstance(answer.get("methods"), dict):
        return None
    name, version = answer.get("name"), answer.get("version")
    methods = {
        each: _read_method(each, described if isinstance(described, dict) else {})
        for each, described in answer["methods"].items()
        if isinstance(each, str)
    }
    return Service(name if isinstance(name, str) else "", methods, version if isinstance(version, int) else 0)


def _read_method(name: str, described: Mapping[str, object]) -> Method:
    doc, returns = described.get("doc"), described.get("returns")
    listed = described.get("parameters", described.get("args"))
    return Method(
        name,
        inspect.cleandoc(doc) if isinstance(doc, str) else None,
        _read_parameters(listed),
        returns if isinstance(returns, str) else None,
        described.get("kind") == "stream",
    )


def _read_parameters(listed: object) -> tuple[Parameter, ...] | None:
    if not isinstance(listed, list):
        return None
    parameters: list[Parameter] = []
    for each in listed:
        name = each.get("name") if isinstance(each, dict) else None
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            return None
        told, annotation = each.get("kind"), each.get("annotation")
        kind = _KINDS.get(str(told), Kind.POSITIONAL_OR_KEYWORD)
        has_default = kind not in (Kind.VAR_POSITIONAL, Kind.VAR_KEYWORD)
        if not parameters and "kind" not in each and name in ("self", "cls"):
            continue  # Servers of zerorpc describe functions that are not bound yet.
        parameters.append(
            Parameter(
                name,
                kind,
                annotation if isinstance(annotation, str) else None,
                each.get("default", REQUIRED) if has_default else REQUIRED,
            )
        )
    return tuple(parameters)


def list_parameters(parameters: Sequence[Parameter], write: Callable[[Parameter], str]) -> list[str]:
    """Return parameters as they stand in a ``def``, with its marks between the kinds.

    Args:
        parameters: in order.
        write: returns a parameter without stars.
    """
    listed: list[str] = []
    before: Kind | None = None
    for each in parameters:
        if before is Kind.POSITIONAL_ONLY and each.kind is not Kind.POSITIONAL_ONLY:
            listed.append("/")
        if each.kind is Kind.KEYWORD_ONLY and before not in (Kind.KEYWORD_ONLY, Kind.VAR_POSITIONAL):
            listed.append("*")
        stars = {Kind.VAR_POSITIONAL: "*", Kind.VAR_KEYWORD: "**"}.get(each.kind, "")
        listed.append(stars + write(each))
        before = each.kind
    if before is Kind.POSITIONAL_ONLY:
        listed.append("/")
    return listed


def _tell(parameter: Parameter) -> str:
    told = clean(parameter.name) + (f": {clean(parameter.annotation)}" if parameter.annotation else "")
    if parameter.default is REQUIRED:
        return told
    return f"{told}{' = ' if parameter.annotation else '='}{clean(repr(parameter.default))}"
