"""Collector with a command and a webhook, in processes of their own."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import zmq

from tests.collector.messages import EPOCH_NS, make_span, refusals
from tests.collector.peers import Peer
from tests.viewer.commands.test_process import DEADLINE_S, MAIN, environment
from tests.viewer.events.conftest import Hook
from tests.ztrace.waiting import wait_for
from ztrace.records import ERROR, ExceptionRecord, FrameRecord

pytestmark = [pytest.mark.process, pytest.mark.slow]


def fail(number: int, kind: str) -> object:
    """Return a failed span."""
    frames = [FrameRecord("/srv/a.py", 1, "f", "m", "f()", True)]
    own = make_span(number, start_ns=EPOCH_NS)
    failure = ExceptionRecord(kind, "no", frames, [], "raised", own.trace_id, own.span_id)
    return make_span(number, start_ns=EPOCH_NS, status=ERROR, exception=failure)


def test_a_collector_notifies_of_new_errors(path: Path, tmp_path: Path, hook: str) -> None:
    """A command and a webhook get each new error with a link to the page.

    An event that the webhook refuses is counted in the file and printed, and no secret is in an argument.
    """
    told = tmp_path / "told"
    Hook.answers[:] = [404, 200]
    bound = ("--bind", "tcp://127.0.0.1:0", "--otlp-listen", "off", "--web-listen", "127.0.0.1:0")
    with (
        subprocess.Popen(
            [sys.executable, "-c", MAIN, "up", "--db", str(path), *bound],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(ZTRACE_WEBHOOK=hook, ZTRACE_ON_EVENT=f"sh -c 'cat >> {told}'"),
        ) as process,
        zmq.Context() as context,
    ):
        try:
            assert process.stderr is not None
            found = re.search(r"collecting at (\S+) into", process.stderr.readline())
            page = re.search(r"(http://\S+)/\?token", process.stderr.readline())
            assert found
            assert page
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                assert b"secret" not in Path(f"/proc/{child}/cmdline").read_bytes()
            peer = Peer(context, found[1])
            peer.wait_for_welcome()
            peer.send(peer.sender.data(fail(1, "ValueError")))
            wait_for(lambda: refusals(path).get("event_failed") == 1)
            peer.send(peer.sender.data(fail(2, "KeyError")))
            wait_for(lambda: len(Hook.asked) == 2)
            peer.socket.close()
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE_S) == 0
            assert process.stderr.read() == (
                "ztrace: event not delivered: 127.0.0.1 answered with HTTP 404; see 'ztrace status' for the"
                " count\n"
            )
        finally:
            process.kill()
    events = [json.loads(line) for line in told.read_text().splitlines()]
    assert [event["text"].split(": ")[1] for event in events] == ["ValueError", "KeyError"]
    assert [event["link"] for event in events] == [
        f"{page[1]}/error/{each['group']['group']}" for each in events
    ]
    assert [body for _, _, body in Hook.asked] == events
