"""Words as arguments, results as text, and descriptions as signatures, stubs and OpenRPC."""

import ast
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mypy import api

from tests.ztrace.rpc.services import Billing
from ztrace.errors import SettingsError
from ztrace.rpc.exposing import expose
from ztrace.rpc.introspection import describe
from ztrace_viewer.commands.rpc.arguments import read_call
from ztrace_viewer.commands.rpc.openrpc import write_openrpc
from ztrace_viewer.commands.rpc.services import Service, read_service
from ztrace_viewer.commands.rpc.stubs import write_stub
from ztrace_viewer.commands.rpc.words import read_arguments, read_words, write_result

#: Anything that a peer may send.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.binary(), inner),
    max_leaves=8,
)


def service_of(functions: dict[str, Any]) -> Service:
    """Return the service of functions, as their server describes it."""
    methods = {name: describe(method) for name, method in expose(functions).items()}
    service = read_service(json.loads(json.dumps({"name": "my_shop", "version": 1, "methods": methods})))
    assert service is not None
    return service


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("visa", "visa"),
        ("12", 12),
        ("-5", -5),
        ("1.5", 1.5),
        ("007", "007"),
        ("true", True),
        ("null", None),
        ('"12"', "12"),
        ('[1, {"a": null}]', [1, {"a": None}]),
        ("[info] started", "[info] started"),
        ("NaN", "NaN"),
        ("%Y/%m/%d", "%Y/%m/%d"),
        ("", ""),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_word_that_is_json_is_its_value(word: str, value: object) -> None:
    """A word that is JSON stands for its value, and any other for itself."""
    assert read_words([word], ()) == ([value], {})


def test_a_word_is_a_keyword_where_the_signature_has_its_name() -> None:
    """``name=value`` is a keyword argument for parameters of this name alone, and never after ``--``."""
    words = ["a=1", "b=x=y", "c=2"]
    assert read_words(words, {"a", "b"}) == (["c=2"], {"a": 1, "b": "x=y"})
    assert read_words([], {"a"}, words) == (words, {})
    with pytest.raises(SettingsError, match="'a' is given twice"):
        read_words(["a=1", "a=2"], {"a"})


def test_arguments_as_json() -> None:
    """--args is an array of positional or an object of keyword arguments, and nothing else."""
    assert read_arguments('[1, "two"]') == ([1, "two"], {})
    assert read_arguments('{"a": 1}') == ([], {"a": 1})
    for text in ("12", "[1", "NaN", '"x"'):
        with pytest.raises(SettingsError, match="--args is"):
            read_arguments(text)


def test_results_are_written_as_text() -> None:
    """A text is written as it is and anything else as JSON, also what JSON lacks."""
    assert write_result("a\nb") == "a\nb"
    assert write_result("ä", as_json=True) == '"ä"'
    assert write_result([1, None, b"\xff", datetime(2026, 1, 31, tzinfo=UTC)]) == (
        '[1, null, "/w==", "2026-01-31T00:00:00+00:00"]'
    )
    assert write_result({1: (2,), b"k": {}}) == '{"1": [2], "\\"aw==\\"": {}}'


@given(VALUES)
def test_whatever_a_peer_sends_can_be_written(value: object) -> None:
    """Each value of msgpack is written without an error."""
    assert isinstance(write_result(value, as_json=True, pretty=True), str)


def test_arguments_are_checked_by_the_signature() -> None:
    """Arguments that do not fit are refused with the signature, before anything is sent."""

    def charge(card: str, amount: int = 1, /, *, tip: float | None = None) -> str:
        return card

    service = service_of({"charge": charge, "print": print})
    method = service.methods["charge"]
    assert method.signature() == "charge(card: str, amount: int = 1, /, *, tip: float | None = None) -> str"
    assert read_call(method, ["visa", "tip=2"]) == (["visa"], {"tip": 2})
    # A parameter that is positional only is no keyword.
    assert read_call(method, ["card=visa"]) == (["card=visa"], {})
    with pytest.raises(SettingsError, match=r"charge: missing a required.*; it is charge\(card: str"):
        read_call(method, [])
    with pytest.raises(SettingsError, match="too many"):
        read_call(method, ["1", "2", "3"])


@pytest.mark.parametrize("answer", [None, 1, [], {}, {"methods": 1}, "text"])
def test_an_answer_that_is_no_description_is_none(answer: object) -> None:
    """What is no description is none."""
    assert read_service(answer) is None


@given(
    st.dictionaries(st.sampled_from(["name", "version"]), VALUES),
    st.dictionaries(st.text(max_size=9), VALUES, max_size=2),
)
def test_a_description_is_not_trusted(described: dict[str, object], methods: dict[str, object]) -> None:
    """Whatever a server says of itself, the stub is Python and OpenRPC is JSON."""
    check_written({**described, "methods": methods})


PARAMETER = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["a", "b", "self", "class", "1", 'x"""']),
        "kind": st.sampled_from(
            ["positional_only", "positional_or_keyword", "var_positional", "keyword_only", "var_keyword", "x"]
        ),
        "default": VALUES,
        "annotation": st.sampled_from(
            ["int", "x.Y[int]", "'int'", "(", 'Literal[\'"""\']', "a.b", "list[int]"]
        ),
    },
)


@given(st.lists(PARAMETER, max_size=4), st.text(), st.sampled_from(["m", "def", "m m", "list"]))
@example([], "false", "m")
def test_parameters_are_not_trusted(parameters: list[object], doc: str, name: str) -> None:
    """Parameters that no function can have, and texts with quotes, give valid Python and JSON."""
    check_written({"name": doc, "methods": {name: {"parameters": parameters, "doc": doc, "kind": "stream"}}})


def check_written(answer: dict[str, object]) -> None:
    """Assert that the service of an answer can be written, drawn and called."""
    service = read_service(answer)
    assert service is not None
    ast.parse(write_stub(service))
    json.loads(write_openrpc(service, "tcp://127.0.0.1:1"))
    for method in service.methods.values():
        assert "\n" not in method.signature()
        method.check([1], {"a": 2})


def test_an_openrpc_document() -> None:
    """OpenRPC has parameters with schemas of their types, defaults and what is required."""

    def charge(card: str, amounts: "list[int] | None" = None, *rest: float) -> dict[str, int]:
        """Charge a card.

        Twice.
        """
        return {}

    (method,) = json.loads(write_openrpc(service_of({"charge": charge}), "tcp://a:1"))["methods"]
    assert method == {
        "name": "charge",
        "summary": "Charge a card.",
        "description": "Charge a card.\n\nTwice.",
        "paramStructure": "either",
        "params": [
            {"name": "card", "required": True, "schema": {"type": "string"}},
            {
                "name": "amounts",
                "required": False,
                "schema": {
                    "anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}],
                    "default": None,
                },
            },
            {"name": "rest", "required": False, "schema": {"type": "array", "items": {"type": "number"}}},
        ],
        "result": {"name": "result", "schema": {"type": "object"}},
    }


def test_mypy_accepts_a_stub(tmp_path: Path) -> None:
    """A stub of each kind of method passes mypy's strict mode, and its types are those of the service."""

    def choose(of: list[int], by: Billing) -> tuple[int, ...]:
        return ()

    found = {name: getattr(Billing(), name) for name in ("charge", "echo", "count", "tail", "wait")}
    (tmp_path / "shop.pyi").write_text(write_stub(service_of({**found, "list": choose, "max": max})))
    (tmp_path / "use.py").write_text(
        "from shop import MyShop\n\n\ndef use(shop: MyShop) -> None:\n"
        "    charged: str = shop.charge('visa', amount=2)\n"
        "    numbers: tuple[int, ...] = shop.list([1], by=charged)\n    for number in shop.count(3):\n"
        "        numbers += (number,)\n    shop.charge(3)\n"
    )
    told, failed, _ = api.run(
        ["--strict", "--no-incremental", "--config-file=", str(tmp_path / "use.py"), "--no-error-summary"]
    )
    assert failed == ""
    assert [line.partition("error: ")[2] for line in told.splitlines()] == [
        'Argument 1 to "charge" of "MyShop" has incompatible type "int"; expected "str"  [arg-type]'
    ]
