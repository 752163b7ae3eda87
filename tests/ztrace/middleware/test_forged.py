"""Contexts and replies that no ztrace sends, on the wires of xmlrpc, managers and Pyro5."""

import json

import pytest

from tests.ztrace.programs import run_program

pytestmark = pytest.mark.process


def test_a_forged_context_or_reply_is_counted_and_the_call_answered() -> None:
    """A text that cannot be read is ignored, whichever side sends it; each is counted."""
    done = run_program("from tests.ztrace.middleware.forging import main; main()")
    contexts, replies = {"peer_context": 4}, {"peer_reply": 4}
    assert json.loads(done.stdout) == {
        "serve_xmlrpc": contexts,
        "call_xmlrpc": replies,
        "serve_manager": contexts,
        "call_manager": replies,
        "serve_pyro5": contexts,
        "call_pyro5": replies,
    }
    assert done.stderr == ""
