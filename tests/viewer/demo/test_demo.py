"""Demo run as by a user: in real processes, twice concurrently, interrupted, killed and obstructed."""

import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import ztrace
from tests.ztrace.waiting import wait_for
from ztrace.errors import ZtraceError
from ztrace_collector.refusals import HANDSHAKE_FAILED
from ztrace_viewer.cli import run
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.identifiers import find_group
from ztrace_viewer.queries.status import read_status
from ztrace_viewer.queries.stores.sqlite.store import SqliteStore, open_file
from ztrace_viewer.queries.traces import list_slowest, read_tree
from ztrace_viewer.queries.way import read_error
from ztrace_viewer.trees.tree import walk

#: Longer than any condition takes: only a failing test reaches it.
DEADLINE_S = 60
#: Environment variable inherited by a demo's processes, which identifies them.
MARKER = "DEMO_TEST_MARKER"
#: Width of the screen in columns.
WIDTH = "120"
#: Processes that a demo starts.
CHILDREN = {"collector", "front", "orders", "billing", "stock", "mail", "loyalty", "courier", "shopper"}

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="looks for processes in /proc"
)


@dataclass(frozen=True)
class Demo:
    """Running ``ztrace demo`` with its own temporary folder."""

    process: "subprocess.Popen[str]"
    marker: str
    temporary: Path

    def read_until(self, words: str) -> None:
        """Read standard error up to a line with the words."""
        assert self.process.stderr is not None
        while words not in (line := self.process.stderr.readline()):
            assert line, f"ended before {words!r}"

    def finish(self) -> tuple[int, str, str]:
        """Wait for the end; return the exit status, the output and standard error."""
        output, errors = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, output, errors

    def processes(self) -> dict[str, int]:
        """Return the pids of its live child processes, by name."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            if self.marker.encode() in _read(folder / "environ") and int(folder.name) != self.process.pid:
                words = _read(folder / "cmdline").decode().split("\0")
                if len(words) < 4:
                    continue  # The process has exited meanwhile.
                module, *arguments = words[3:]
                name = module.removeprefix("ztrace_viewer.demo.")
                found[arguments[0] if name == "service" else name] = int(folder.name)
        return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@contextmanager
def start_demo(*arguments: str, path: Path | None = None) -> Iterator[Demo]:
    """Start a demo; all of its processes are killed at the end."""
    marker = uuid.uuid4().hex
    # Sockets need shorter paths than pytest's folders have.
    with TemporaryDirectory(prefix="zd-") as temporary:
        environment = {**os.environ, MARKER: marker, "TMPDIR": temporary, "COLUMNS": WIDTH}
        # Settings of the user's own services.
        environment |= {"ZTRACE_DISABLED": "1", "ZTRACE_SERVICE": "mine"}
        # The sampler's setting is passed on.
        environment["ZTRACE_PROFILE"] = "slow"
        if path is not None:
            environment["PYTHONPATH"] = str(path)
        command = "import sys; from ztrace_viewer.entry import main; sys.exit(main())"
        with subprocess.Popen(
            [sys.executable, "-c", command, "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process:
            demo = Demo(process, marker, Path(temporary))
            try:
                yield demo
            finally:
                process.kill()
                for pid in demo.processes().values():
                    os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Finished:
    """Finished demo and the database it left."""

    status: int
    output: str
    errors: str
    left: dict[str, int]
    files: list[str]
    database: Path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Return a demo that ran concurrently with another one, which kept its database in a temporary folder."""
    database = tmp_path_factory.mktemp("demo") / "our shop.db"
    with (
        start_demo("--seconds", "0.6", "--db", str(database)) as one,
        start_demo("--seconds", "0.6") as other,
    ):
        status, output, errors = one.finish()
        other_status, other_output, other_errors = other.finish()
        assert other_status == 0, other_errors
        (kept,) = other.temporary.glob("*/*.db")
        assert f"--db {kept}" in other_output
        assert one.processes() == other.processes() == {}
        return Finished(
            status, output, errors, one.processes(), sorted(map(str, one.temporary.iterdir())), database
        )


@pytest.fixture
def db(finished: Finished) -> Iterator[SqliteStore]:
    """Yield the finished demo's database."""
    with open_file(finished.database) as opened:
        yield opened


@pytest.mark.process
def test_ends_well_and_leaves_only_the_database(finished: Finished) -> None:
    """The demo prints its stages, reports no error, and leaves no file but the database."""
    assert (finished.status, finished.files) == (0, []), finished.errors
    stages = [line.partition(":")[0] for line in finished.errors.splitlines()]
    assert stages == ["opening the shop", "the shop is open for 0.6 s", "closing the shop"]
    # SQLite's own files stay beside a database that has been read.
    assert {path.stem for path in finished.database.parent.iterdir()} == {finished.database.stem}


@pytest.mark.process
def test_every_call_tree_is_stored_and_complete(db: SqliteStore) -> None:
    """Every span is stored, every tree is complete, and every root is a shopper's."""
    status = read_status(db, time.time_ns())
    # Clients of other tests may still try the port that the system has given to the demo's collector.
    status["rejected"].pop(HANDSHAKE_FAILED, None)
    assert (status["spans_lost"], status["unfinished"], status["rejected"]) == (0, 0, {})
    assert {each["service"] for each in status["publishers"]} == CHILDREN - {"collector"}
    assert {each["state"] for each in status["publishers"]} == {"ended"}
    traces = list_slowest(db, limit=10_000)["traces"]
    assert len(traces) == status["traces_stored"] >= 4
    assert {(trace["service"], trace["complete"]) for trace in traces} == {("shopper", True)}
    assert {trace["name"] for trace in traces} == {"buy", "look", "search"}
    assert {version for (version,) in db.db.execute("SELECT version FROM instances")} == {ztrace.__version__}
    assert db.db.execute("SELECT sum(samples_created) FROM publishers").fetchone()[0] > 0


@pytest.mark.process
def test_the_slow_tree_shows_what_is_slow(finished: Finished, db: SqliteStore) -> None:
    """The slowest tree passes all services, repeats price calls, and waits for the supplier."""
    slowest = list_slowest(db, limit=1)["traces"][0]
    assert set(slowest["services"]) == CHILDREN - {"collector"}
    spans = [span for span, _ in walk(read_tree(db, bytes.fromhex(slowest["trace_id"]))["roots"])]
    (supplier,) = [span for span in spans if span["name"] == "ask supplier"]
    assert (supplier["self_ns"] or 0) > (slowest["duration_ns"] or 0) / 4
    assert sum((span["name"], span["kind"]) == ("price", "server") for span in spans) > 10
    after = ("confirm", "add_points", "book")
    steps = [(span["service"], span["kind"]) for span in spans if span["name"] in after]
    assert steps == [
        ("orders", "producer"),
        ("mail", "consumer"),
        ("mail", "client"),
        ("loyalty", "server"),
        ("mail", "client"),
        ("courier", "server"),
    ]
    assert f"trace {slowest['trace_id']}  shopper.buy" in finished.output
    assert "stock.ask supplier" in finished.output
    assert "more like this" in finished.output


@pytest.mark.process
def test_the_error_is_shown_from_caller_to_origin(finished: Finished, db: SqliteStore) -> None:
    """The declined card is printed from the shopper to its origin in billing, wrapped by orders."""
    groups = {group["type"].rpartition(".")[2]: group for group in list_groups(db)["groups"]}
    assert groups.keys() == {"CardDeclined", "TimeoutExpired"}
    declined = read_error(db, groups["CardDeclined"]["group"])
    assert [(hop["service"], hop["name"], hop["how"]) for hop in declined["hops"]] == [
        ("shopper", "buy", "passed"),
        ("shopper", "checkout", "passed"),
        ("front", "checkout", "passed"),
        ("front", "place", "passed"),
        ("orders", "place", "wrapped"),
        ("orders", "charge", "passed"),
        ("billing", "charge", "raised"),
    ]
    assert f"error {declined['group']['group']}  began in billing.charge" in finished.output
    assert declined["group"]["uncaught_count"] == declined["group"]["count"]
    assert "came out of shopper.buy as OrderFailed: nothing ordered for " in finished.output
    places = [finished.output.index(f"↓ calls {call}  (pid ") for call in ("orders.place", "billing.charge")]
    assert places[0] < finished.output.index("OrderFailed: nothing ordered", places[0]) < places[1]
    calls = (
        "front.checkout(customer",
        "receipt: str = self._orders.place(",
        "receipt: str = self._billing.charge(",
    )
    places = [finished.output.index(f"  → {call}") for call in calls]
    assert places == sorted(places)
    assert "▸ raise CardDeclined(" in finished.output


@pytest.mark.process
def test_the_timeout_shows_both_ends_of_the_call(finished: Finished, db: SqliteStore) -> None:
    """The timeout of a call is an error of the caller only, and the callee ends later."""
    (group,) = [each for each in list_groups(db)["groups"] if each["type"].endswith("TimeoutExpired")]
    tree = read_tree(db, bytes.fromhex(group["trace_id"]))
    client, server = (span for span, _ in walk(tree["roots"]) if span["name"] == "delivery_date")
    assert (client["service"], client["status"]) == ("front", "error")
    assert (server["service"], server["status"]) == ("stock", "ok")
    assert (client["duration_ns"] or 0) < (server["duration_ns"] or 0)
    assert tree["roots"][0]["status"] == "ok"
    assert "TimeoutExpired: timeout after 0.25s" in finished.output


@pytest.mark.process
def test_every_command_it_prints_works(
    finished: Finished,
    db: SqliteStore,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every printed command works as printed, and draws the picture printed below it."""
    commands = [line.strip() for line in finished.output.splitlines() if line.strip().startswith("ztrace ")]
    verbs = [shlex.split(command)[1] for command in commands]
    further = ["slow", "show", "error", "profile", "stats", "status"]
    assert verbs == ["slow", "show", "errors", "error", *further]
    assert f"In the browser  ztrace web --db {commands[0].partition('--db ')[2]}" in finished.output
    monkeypatch.setenv("COLUMNS", WIDTH)
    drawn = []
    for command in commands:
        assert run(shlex.split(command)[1:]) == 0, command
        drawn.append(capsys.readouterr().out.splitlines())
    # Without the second line, which has the age.
    assert len(drawn[1]) > 10
    assert "\n".join(drawn[1][2:]) in finished.output
    assert find_group(db, shlex.split(commands[3])[2]) != find_group(db, shlex.split(commands[6])[2])


@pytest.mark.process
@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_it_leaves_no_process(number: signal.Signals) -> None:
    """After Ctrl-C or a kill no process of the demo survives, and Ctrl-C prints no traceback."""
    with start_demo("--seconds", "60") as demo:
        demo.read_until("the shop is open")
        wait_for(lambda: demo.processes().keys() == CHILDREN)
        demo.process.send_signal(number)
        status, output, errors = demo.finish()
        assert (output, errors.strip()) == ("", "")
        if number == signal.SIGINT:
            assert (status, demo.processes(), list(demo.temporary.iterdir())) == (130, {}, [])
        wait_for(lambda: not demo.processes())


@pytest.mark.process
def test_interrupted_it_leaves_one_whole_file(tmp_path: Path) -> None:
    """After Ctrl-C the given database is complete in its file; --verbose told of each process."""
    path = tmp_path / "shop.db"
    with start_demo("--seconds", "60", "--verbose", "--db", str(path)) as demo:
        for name in ("stock", "shopper"):
            demo.read_until(f"{name} started as process")
        demo.read_until("the shop is open")
        wait_for(lambda: path.exists() and count_spans(path))
        demo.process.send_signal(signal.SIGINT)
        status, output, errors = demo.finish()
    assert (status, output) == (130, "")
    assert "collector ended with status 0" in errors
    assert list(tmp_path.iterdir()) == [path]
    assert count_spans(path) > 0


def count_spans(path: Path) -> int:
    """Return the number of stored spans."""
    with open_file(path) as db:
        return read_status(db, 0)["spans_stored"]


@pytest.mark.process
@needs_proc
def test_a_service_that_dies_ends_it_with_one_line() -> None:
    """A killed service ends the demo with one line that names the service and its log."""
    with start_demo("--seconds", "60") as demo:
        demo.read_until("the shop is open")
        os.kill(demo.processes()["stock"], signal.SIGKILL)
        status, output, errors = demo.finish()
        log = next(demo.temporary.glob("*/run/stock.log"))
        assert (status, output) == (2, "")
        assert errors == (
            f"ztrace: stock ended while the shop was open: no output, exit status -9; see {log}\n"
        )
        assert demo.processes() == {}


@pytest.mark.process
def test_a_service_that_does_not_start_ends_it_with_one_line(tmp_path: Path) -> None:
    """A service that fails to start ends the demo with one line from its log."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif 'billing' in sys.orig_argv: raise SystemExit('Traceback …\\nNoBank: it has closed')\n"
    )
    with start_demo(path=tmp_path) as demo:
        status, output, errors = demo.finish()
        log = next(demo.temporary.glob("*/run/billing.log"))
        assert (status, output) == (2, "")
        assert errors.splitlines()[1:] == [f"ztrace: billing did not start: NoBank: it has closed; see {log}"]


@pytest.mark.process
def test_a_foreign_file_is_refused_with_the_collectors_line(tmp_path: Path) -> None:
    """A file that is no database is refused with the collector's message and left unchanged."""
    foreign = tmp_path / "notes.db"
    foreign.write_text("not a database, and longer than a header of one is" * 10)
    with start_demo("--db", str(foreign)) as demo:
        status, _, errors = demo.finish()
        assert status == 2
        assert errors.splitlines()[1:] == [
            f"ztrace: {foreign} is not an SQLite database; give another file with --db"
        ]
        assert list(demo.temporary.iterdir()) == []


@pytest.mark.parametrize("missing", ["zerorpc", "rpyc"])
def test_without_its_libraries_it_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing library is reported before a process starts."""
    from ztrace_viewer import demo

    monkeypatch.setattr(demo, "find_spec", lambda name: name != missing)
    with pytest.raises(ZtraceError, match=rf"{missing} is not installed; pip install 'ztrace\[demo\]'"):
        demo.run(1, None)
