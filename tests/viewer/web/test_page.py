"""Files of the page, and its stream of what arrives."""

import http.client
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.viewer.stored import NOON, checkout, store, trace_id
from tests.viewer.web.serving import DEADLINE_S, TOKEN, Site, served
from ztrace_viewer.web.files import VIEWS

FILES = Path(__file__).parents[3] / "viewer/ztrace_viewer/web/page"


@pytest.mark.process
@pytest.mark.parametrize(
    "path", [path.replace("{trace}", "ab12").replace("{group}", "ab12") for path in VIEWS]
)
def test_every_address_is_the_page(site: Site, path: str) -> None:
    """Each address of a view is answered with the page, which loads nothing from another host."""
    answer = site.ask(path)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.text == (FILES / "index.html").read_text()
    assert "//" not in answer.text.replace("<!doctype html>", "")


@pytest.mark.process
@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/trces", 404, "not found"),
        (f"/trace/{'ab' * 16}.md", 404, f"no trace begins with {'ab' * 16}; see &#x27;ztrace slow&#x27;"),
        ("/error/<b>.md", 400, "&lt;b&gt;"),
    ],
)
def test_an_address_without_an_answer_is_a_page_in_a_browser(
    site: Site, path: str, status: int, text: str
) -> None:
    """A browser gets one sentence and a link to go on; programs get JSON."""
    headers = {"X-Ztrace-Token": TOKEN, "Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    answer = site.ask(path, headers=headers)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert text in answer.text
    assert '<a href="/">' in answer.text
    assert site.ask(path).document["errors"][0]["code"] == status
    assert site.ask("/data/nothing", headers=headers).document == {"error": "not found"}


@pytest.mark.process
@pytest.mark.parametrize("path", sorted(path.name for path in FILES.iterdir() if path.name != "index.html"))
def test_files_are_kept_by_their_tag(site: Site, path: str) -> None:
    """A file is sent once, and not again while it is the same."""
    answer = site.ask(f"/page/{path}")
    assert (answer.status, answer.text) == (200, (FILES / path).read_text())
    kept = site.ask(
        f"/page/{path}", headers={"X-Ztrace-Token": TOKEN, "If-None-Match": answer.headers["ETag"]}
    )
    assert (kept.status, kept.text) == (304, "")


@pytest.mark.process
@pytest.mark.parametrize("name", ["nothing.js", "index.html", "..%2fapp.py", "%2e%2e/app.py"])
def test_there_are_no_other_files(site: Site, name: str) -> None:
    """Nothing but the page's files is served."""
    assert site.ask(f"/page/{name}").status == 404


def test_views_of_the_script_are_those_of_the_server() -> None:
    """The script has a view for each address that the server answers with the page."""
    script = (FILES / "page.js").read_text()
    for path in VIEWS:
        first = path.strip("/").partition("/")[0]
        assert (f"/^\\/{first}" if first else "[/^\\/$/") in script


@pytest.mark.process
def test_trees_and_errors_come_as_they_arrive(tmp_path: Path) -> None:
    """Two streams have the same events, and the server ends at once although they are open."""
    path = tmp_path / "shop.db"
    store(path, checkout(trace_id(1), NOON), at_ns=NOON)
    with served(path) as site, ExitStack() as stack:
        streams = [_open_stream(site, stack) for _ in range(2)]
        assert [stream.readline() for stream in streams] == [b": connected\n"] * 2
        with _storing(path):
            first, second = map(_read_event, streams)
        assert first == second
        # Both streams are open still.
        site.process.send_signal(signal.SIGINT)
        assert site.process.wait(DEADLINE_S) == 0


@contextmanager
def _storing(path: Path) -> Iterator[None]:
    """Store one tree after the other, since those that come before the file is followed are not new."""
    ended = threading.Event()

    def work() -> None:
        for number in count(2):
            store(path, checkout(trace_id(number), NOON), at_ns=NOON)
            if ended.wait(0.2):
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _open_stream(site: Site, stack: ExitStack) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=DEADLINE_S)
    stack.callback(connection.close)
    connection.request("GET", "/data/tail", headers=dict(site.headers))
    response = stack.enter_context(connection.getresponse())
    assert response.headers["Content-Type"].startswith("text/event-stream")
    return response


def _read_event(stream: http.client.HTTPResponse) -> dict[str, str]:
    """Return the next event."""
    line = next(line for line in iter(stream.readline, b"") if line.startswith(b"data: "))
    event: dict[str, str] = json.loads(line[6:])
    return event
