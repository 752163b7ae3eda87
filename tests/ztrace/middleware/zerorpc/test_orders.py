"""Other middleware beside ztrace's: nothing is lost, whichever is registered first."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ztrace.middleware.zerorpc.alone import FOREIGN
from tests.ztrace.middleware.zerorpc.fleet import Child

pytestmark = pytest.mark.process

#: Trees of calls without other middleware.
ALONE = {
    "call": ["internal root(client work(server work(internal within)))"],
    "error": ["internal root passed server fail(client fail passed server fail(server fail raised))"],
    "stream": ["internal root(client count(server count))"],
    "unknown": [
        "internal root passed server nothing(client nothing passed server nothing(server nothing raised))"
    ],
    "message": ["internal root(producer work(consumer work(internal within)))"],
}

HOOKS = (
    "get_task_context",
    "load_task_context",
    "client_before_request",
    "client_after_request",
    "client_handle_remote_error",
    "server_before_exec",
    "server_after_exec",
    "server_inspect_exception",
)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """Yield a process with a client and a server of its own."""
    errors = tmp_path_factory.mktemp("alone") / "errors.txt"
    with Child(errors, "-m", "tests.ztrace.middleware.zerorpc.alone") as child:
        yield child
        assert child.finish() == 0
        assert errors.read_text() == ""


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("make", ["nested", "in_span"])
def test_spans_of_other_middleware_are_in_the_tree(alone: Child, make: str, hook: str, order: str) -> None:
    """Calls and spans of another middleware's hook are in the tree of the call, and leave its shape."""
    answer = alone.ask(["order", make, hook, order])
    added = {"nested": "client token(server token)", "in_span": "internal hook"}[make]
    for sort, trees in answer["trees"].items():
        (tree,) = trees
        rest = tree.replace(f", {added}", "").replace(f"{added}, ", "").replace(f"({added})", "")
        assert [rest] == ALONE[sort], trees
    assert answer["failures"] == {}


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("hook", ["get_task_context", "client_before_request"])
def test_another_tracers_context_is_sent_beside(alone: Child, hook: str, order: str) -> None:
    """Another tracer's ``traceparent`` arrives unchanged, and so does ztrace's context."""
    answer = alone.ask(["order", "foreign", hook, order])
    assert answer["trees"] == ALONE
    sent = answer["seen"] if hook == "get_task_context" else answer["seen"][:-1]  # Messages have no request.
    assert set(sent) == {FOREIGN}


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize(
    ("hook", "how"),
    [
        ("client_after_request", "wrapped"),
        ("client_handle_remote_error", "passed"),
        ("server_inspect_exception", "passed"),
    ],
)
def test_the_origin_of_an_exception_that_is_replaced(alone: Child, hook: str, how: str, order: str) -> None:
    """An exception in the place of the remote one, or of the method's, keeps the origin."""
    answer = alone.ask(["order", "mapping", hook, order])
    trees = {
        sort: [tree.replace(" wrapped ", " passed ") for tree in trees]
        for sort, trees in answer["trees"].items()
    }
    assert trees == ALONE
    assert f"client fail {how} server fail" in answer["trees"]["error"][0]


def test_contexts_that_exist_before_the_middleware(tmp_path: Path) -> None:
    """`instrument` reaches every context, server and puller that exists, those of subclasses included."""
    with Child(tmp_path / "errors.txt", "-m", "tests.ztrace.middleware.zerorpc.alone") as child:
        answer = child.ask(["late"])
        assert answer == {"trees": [ALONE["call"] + ALONE["message"]] * 3, "failures": {}}
        assert child.finish() == 0
