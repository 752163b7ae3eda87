"""Patterns with a ``process_call`` of their own: each call has one server span."""

from pathlib import Path

import pytest

from tests.ztrace.middleware.zerorpc.fleet import Child

pytestmark = pytest.mark.process


def traced(method: str, within: str = "internal within") -> list[str]:
    """Return the tree of a call that is traced."""
    return [f"internal root(client {method}(server {method}({within})))"]


@pytest.mark.parametrize("when", ["before", "after", "at once"])
def test_patterns_of_the_programs_own(tmp_path: Path, when: str) -> None:
    """Subclasses and other classes are traced, once where they call zerorpc's; one that cannot be is told."""
    with Child(tmp_path / "errors.txt", "-m", "tests.ztrace.middleware.zerorpc.alone") as child:
        answer = child.ask(["patterns", when])
        assert child.finish() == 0
    assert answer["failures"] == {}
    assert answer["told"] == [
        "ztrace: calls with the zerorpc pattern Odd are not traced: make process_call a method"
    ]
    raised = "server plain_fails"
    around = "internal around"
    assert answer["trees"] == {
        **{method: traced(method) for method in ("work", "plain", "silent", "static", "by_class")},
        "around": traced("around", "internal around(internal within)"),
        "streamed": ["internal root(client streamed(server streamed))"],
        "odd": ["internal within", "internal root(client odd)"],
        "plain_fails": [
            f"internal root passed {raised}(client plain_fails passed {raised}({raised} raised))"
        ],
        "around_fails": [
            f"internal root passed {around}(client around_fails passed {around}"
            f"(server around_fails passed {around}({around} raised)))"
        ],
    }
