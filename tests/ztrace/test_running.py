"""``ztrace-run``: programs traced without a line changed, and programs left as they are."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.ztrace.programs import ROOT
from tests.ztrace.receiving import Receiver
from tests.ztrace.waiting import DEADLINE_S, wait_for
from ztrace.running.command import find_obstacle, make_environment

RUN = [sys.executable, "-c", "from ztrace.running.command import main; main()"]

#: A server and a client of zerorpc in one process, which knows nothing of ztrace.
PROGRAM = """
import gevent, os, sys, zerorpc
class Service:
    def double(self, number): return 2 * number
server = zerorpc.Server(Service())
server.bind("tcp://127.0.0.1:0", resolve=False) if False else server.bind("tcp://127.0.0.1:0")
gevent.spawn(server.run)
import zmq
client = zerorpc.Client()
client.connect(server._events._socket.getsockopt_string(zmq.LAST_ENDPOINT))
print(client.double(21))
client.close(); server.close()
"""


def run(
    arguments: Sequence[str | Path],
    receiver: Receiver,
    *,
    expect: int = 0,
    cwd: Path | None = None,
    **more: str,
) -> "subprocess.CompletedProcess[str]":
    """Run a program under ``ztrace-run`` to its end."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("ZTRACE_", "PYTHONPATH"))
    }
    done = subprocess.run(
        [*RUN, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(ROOT), "ZTRACE_ENDPOINT": receiver.endpoint, **more},
    )
    assert done.returncode == expect, done.stderr
    return done


def kinds(receiver: Receiver) -> list[tuple[str, int]]:
    """Return the name and kind of each span, sorted."""
    return sorted((span.name, span.kind) for span in receiver.spans)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return the path of the program, which is also a package."""
    path = tmp_path / "shop.py"
    path.write_text(PROGRAM)
    return path


@pytest.mark.process
@pytest.mark.parametrize("way", ["script", "-m", "-c", "-I", "shell", "child", "stdin", "console script"])
def test_an_unchanged_program_is_traced(receiver: Receiver, program: Path, way: str) -> None:
    """However a program is started, its calls have their client and server spans."""
    script = program.with_name("shop")
    script.write_text(f"#!{sys.executable}\n{PROGRAM}")
    script.chmod(0o755)
    python = sys.executable
    starts: dict[str, list[str | Path]] = {
        "script": [python, program],
        "-m": [python, "-m", "shop"],
        "-c": [python, "-c", PROGRAM],
        "-I": [python, "-I", program],
        "shell": ["sh", "-c", f"exec {python} {program}"],
        "child": [
            python,
            "-c",
            f"import subprocess, sys; sys.exit(subprocess.call([{python!r}, {str(program)!r}]))",
        ],
        "stdin": ["sh", "-c", f"{python} < {program}"],
        "console script": [script],
    }
    done = run(starts[way], receiver, cwd=program.parent)
    assert (done.stdout, done.stderr) == ("42\n", "")
    assert kinds(receiver) == [("double", 2), ("double", 3)]


#: WSGI application that calls a server which is not there, in a worker of gunicorn.
APPLICATION = """
import os, xmlrpc.client
def application(environ, start_response):
    try:
        xmlrpc.client.ServerProxy("http://127.0.0.1:1").find(os.getpid())
    except OSError:
        pass
    start_response("200 OK", [("Content-Length", "2"), ("Connection", "close")])
    return [b"ok"]
"""


@pytest.mark.process
@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["plain", "preload"])
def test_the_workers_of_gunicorn_are_traced(receiver: Receiver, tmp_path: Path, preload: list[str]) -> None:
    """Calls of an application that gunicorn serves have their spans, in each worker."""
    (tmp_path / "shop.py").write_text(APPLICATION)
    command = [sys.executable, "-m", "gunicorn", *preload, "--workers=2", "--bind=127.0.0.1:0"]
    command += ["--no-control-socket", f"--worker-tmp-dir={tmp_path}", "shop:application"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ZTRACE_ENDPOINT": receiver.endpoint}
    server = subprocess.Popen(
        [*RUN, "--service", "shop", *command],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with server:
        try:
            assert server.stderr is not None
            lines = iter(server.stderr.readline, "")
            port = next(line for line in lines if "Listening at" in line).split("127.0.0.1:")[1].split()[0]
            for _ in range(6):
                with urlopen(f"http://127.0.0.1:{port}/", timeout=DEADLINE_S) as answer:
                    assert answer.read() == b"ok"
            server.terminate()
            assert "ztrace" not in server.stderr.read()
            assert server.wait(DEADLINE_S) == 0
        finally:
            server.kill()
    assert kinds(receiver) == [("find", 3)] * 6
    assert {header.service for header, spans in receiver.messages if spans} == {"shop"}


@pytest.mark.process
def test_the_service_is_named_by_the_option(receiver: Receiver, program: Path) -> None:
    """``--service`` names the spans' service, which is the script's name by default."""
    run([sys.executable, program], receiver)
    run(["--service", "billing", sys.executable, program], receiver)
    wait_for(lambda: len(receiver.spans) == 4)
    assert {header.service for header, spans in receiver.messages if spans} == {"shop", "billing"}


@pytest.mark.process
def test_a_program_that_configures_ztrace_itself_goes_on_as_it_did(receiver: Receiver, program: Path) -> None:
    """No span is recorded twice, and the program's own name of the service wins."""
    own = "import ztrace\nztrace.configure('own')\nztrace.instrument('zerorpc')\n"
    program.write_text(own + PROGRAM)
    run([sys.executable, program], receiver)
    assert kinds(receiver) == [("double", 2), ("double", 3)]
    assert {header.service for header, spans in receiver.messages if spans} == {"own"}


@pytest.mark.process
def test_a_program_with_spans_of_its_own_needs_no_configuration(receiver: Receiver, tmp_path: Path) -> None:
    """Importing ztrace is enough to have spans recorded."""
    path = tmp_path / "shop.py"
    path.write_text("import ztrace\nwith ztrace.span('own'): pass\n")
    run([sys.executable, path], receiver)
    assert kinds(receiver) == [("own", 1)]


@pytest.mark.process
def test_a_program_without_traced_libraries_imports_nothing_of_ztrace(
    receiver: Receiver, tmp_path: Path
) -> None:
    """Neither modules nor entries of ``sys.path`` are added, and the user's sitecustomize runs."""
    (tmp_path / "sitecustomize.py").write_text("import builtins\nbuiltins.customized = True\n")
    code = (
        "import sys, builtins; print(sorted(name for name in sys.modules if name.startswith('ztrace')),"
        " [path for path in sys.path if 'running' in path], builtins.customized,"
        " sys.modules['sitecustomize'].__file__)"
    )
    done = run([sys.executable, "-c", code], receiver, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.stdout == f"[] [] True {tmp_path}/sitecustomize.py\n"
    plain = run([sys.executable, "-c", "import sys; print('sitecustomize' in sys.modules)"], receiver)
    assert plain.stdout == "True\n"


@pytest.mark.process
@pytest.mark.parametrize("isolated", [[], ["-I"]], ids=["plain", "isolated"])
def test_without_its_variable_the_installed_line_does_nothing(isolated: list[str], tmp_path: Path) -> None:
    """A Python that is not started by ``ztrace-run`` has nothing of it."""
    assert "ztrace_run.pth" in os.listdir(sysconfig.get_path("purelib"))
    code = "import sys; print([name for name in (*sys.modules, *sys.path) if 'ztrace_run' in name.lower()])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZTRACE_")}
    done = subprocess.run(
        [sys.executable, *isolated, "-c", code],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        cwd=tmp_path,
        env=environment,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.process
def test_a_broken_sitecustomize_is_reported_as_without_ztrace(receiver: Receiver, tmp_path: Path) -> None:
    """The error of the user's own sitecustomize is shown by Python, and the program runs."""
    (tmp_path / "sitecustomize.py").write_text("import missing_module\n")
    done = run([sys.executable, "-c", "print(1)"], receiver, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.stdout == "1\n"
    assert "missing_module" in done.stderr


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "name the program to run"),
        (["no-such-program"], 127, "no-such-program: no such program"),
        ([__file__], 127, "no such program"),
    ],
)
def test_mistakes_are_one_clear_line(
    receiver: Receiver, arguments: list[str], status: int, message: str
) -> None:
    """The last line on stderr says what is wrong, and the exit status is that of a shell."""
    assert message in run(arguments, receiver, expect=status).stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("python -S x.py", "-S"),
        ("python3.12 -uS x.py", "-S"),
        ("env -i python x.py", "env -i"),
        ("uwsgi --master", "uWSGI"),
        ("python x.py -S", ""),
        ("python -W S x.py", ""),
        ("python -m S", ""),
        ("gunicorn -w 4 app", ""),
    ],
)
def test_obstacles_are_recognized(command: str, word: str) -> None:
    """Commands that run no start-up hook are told from those that do."""
    assert word in find_obstacle(command.split())
    assert bool(find_obstacle(command.split())) == bool(word)


def test_variables_are_not_added_twice() -> None:
    """``ztrace-run`` under ``ztrace-run`` changes nothing more."""
    once = make_environment({"PYTHONPATH": "/a"}, "shop")
    assert make_environment(once, None) == once
    assert once["PYTHONPATH"].endswith(f"{os.pathsep}/a")


@pytest.mark.process
def test_a_python_without_ztrace_says_so(receiver: Receiver, tmp_path: Path) -> None:
    """A program whose Python has no ztrace runs as before, with one line on stderr."""
    (tmp_path / "zerorpc.py").write_text("value = 7\n")
    hide = "import sys; sys.modules['ztrace'] = None\nimport zerorpc; print(zerorpc.value)"
    done = run([sys.executable, "-c", hide], receiver, PYTHONPATH=str(tmp_path))
    assert done.stdout == "7\n"
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("ztrace-run: not tracing: ")
