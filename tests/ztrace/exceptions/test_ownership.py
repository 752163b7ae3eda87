"""The user's own code, however a service is installed and started."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import types
import zipapp
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gevent
import pytest

import ztrace
from tests.ztrace.programs import ROOT
from tests.ztrace.waiting import DEADLINE_S
from ztrace.exceptions import ownership
from ztrace.exceptions.ownership import is_in_app

#: A distribution with two packages and a part of a namespace, and one with another part of it.
BILLING = {
    "billing/__init__.py": "",
    "billing/__main__.py": "from billing.main import main\nmain()\n",
    "billing/main.py": "from billing.work import show\n\ndef main():\n    show()\n",
    "billing/started.py": "from billing.main import main\nmain()\n",
    "billing/wsgi.py": "from billing.work import show\nshow()\n\ndef app(environ, start):\n    return []\n",
    "billing/configured.py": """
import ztrace
from billing.work import show

def serve():
    ztrace.configure("billing", "tcp://127.0.0.1:9")
    show()
""",
    "billing/work.py": """
import json
import ztrace
from acme.common import relay
from acme.reports import report
from billing_prices import look_up
from collections import deque
from ztrace import spans
from ztrace.records import ExceptionRecord, FrameRecord

class Recorder:
    queue, room, offset_ns, register, watched, born_here = deque(), 9, 0, {}, {}, True

def work():
    report(lambda: relay(lambda: look_up("pen")))

def show():
    before, spans.publisher = spans.publisher, Recorder
    try:
        with ztrace.span("work"):
            work()
    except ValueError:
        pass
    spans.publisher = before
    frames = [FrameRecord(*frame) for frame in ExceptionRecord(*Recorder.queue[0][12]).frames]
    print(json.dumps([[frame.function, frame.in_app] for frame in frames]), flush=True)
""",
    "billing_prices.py": "import json\n\ndef look_up(article):\n    return json.loads(article)\n",
    "acme/reports/__init__.py": "def report(work):\n    return work()\n",
}
COMMON = {"acme/common.py": "def relay(work):\n    return work()\n"}

#: Frames recorded in `work`, and whether each is the user's own.
OWN = [
    ["show", True],
    ["work", True],
    ["report", True],
    ["work.<locals>.<lambda>", True],
    ["relay", False],
    ["work.<locals>.<lambda>.<locals>.<lambda>", True],
    ["look_up", True],
]
LIBRARY = [["loads", False], ["JSONDecoder.decode", False], ["JSONDecoder.raw_decode", False]]


class Installed(NamedTuple):
    """Folder with the two distributions: its scripts and its packages."""

    scripts: Path
    packages: Path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Install the two distributions with pip, and return the folders."""
    folder = tmp_path_factory.mktemp("installed")
    entry = "[console_scripts]\nbilling = billing.main:main\n"
    wheels = [
        make_wheel(folder, "shop-services", {**BILLING}, entry),
        make_wheel(folder, "shop-common", COMMON, ""),
    ]
    prefix = folder / "prefix"
    options = (
        "-q --no-deps --no-index --no-warn-script-location --disable-pip-version-check --ignore-installed"
    )
    command = [sys.executable, "-m", "pip", "install", *options.split(), "--prefix", str(prefix)]
    subprocess.run([*command, *map(str, wheels)], check=True)
    (packages,) = prefix.glob("lib/*/site-packages")
    return Installed(prefix / "bin", packages)


def make_wheel(folder: Path, name: str, files: dict[str, str], entry_points: str) -> Path:
    """Write a wheel by hand, which needs no build, and return its path."""
    stem = f"{name.replace('-', '_')}-1.0"
    info = f"{stem}.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": entry_points,
    }
    rows = []
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in contents.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows.append(f"{file},sha256={digest},{len(text.encode())}\n")
            wheel.writestr(file, text)
        wheel.writestr(f"{info}/RECORD", "".join([*rows, f"{info}/RECORD,,\n"]))
    return path


def run(installed: Installed, *command: str, folder: Path | None = None, **environment: str) -> Any:
    """Run a command with the distributions installed, and return what it printed first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZTRACE_")}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        cwd=folder,
        env={**kept, "PYTHONPATH": f"{installed.packages}{os.pathsep}{ROOT}", **environment},
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[0])


@pytest.mark.process
@pytest.mark.parametrize(
    "command",
    [
        ["{scripts}/billing"],
        ["-m", "billing"],
        ["-m", "billing.started"],
        ["{packages}/billing/__main__.py"],
        ["-m", "gunicorn", "--check-config", "billing.wsgi:app"],
        ["-m", "gunicorn", "-k", "gevent", "--check-config", "billing.wsgi"],
        ["-m", "uvicorn", "--factory", "billing.wsgi:app"],
        ["-m", "cProfile", "-m", "billing"],
    ],
    ids=" ".join,
)
def test_the_started_distribution_is_the_users_own(installed: Installed, command: list[str]) -> None:
    """All packages of the distribution that a process was started for are in-app, and no others are."""
    found = run(installed, sys.executable, *(part.format(**installed._asdict()) for part in command))
    assert found == [*OWN, *LIBRARY]


@pytest.mark.process
def test_the_module_that_configures_is_the_users_own(installed: Installed, tmp_path: Path) -> None:
    """The distribution whose code calls `ztrace.configure` is in-app, whatever script imports it."""
    script = tmp_path / "server.py"
    script.write_text("from billing.configured import serve\nserve()\n")
    assert run(installed, sys.executable, str(script)) == [*OWN, *LIBRARY]
    script.write_text("from billing.work import show\nshow()\n")
    installed_only = [[name, False] for name, _ in [*OWN, *LIBRARY]]
    assert run(installed, sys.executable, str(script)) == [["<module>", True], *installed_only]


@pytest.mark.process
@pytest.mark.parametrize("variable", ["DJANGO_SETTINGS_MODULE", "FLASK_APP"])
def test_a_variable_names_the_application(installed: Installed, tmp_path: Path, variable: str) -> None:
    """The module that a variable of a framework names is in-app, if the framework was started."""
    (tmp_path / "flask.py").write_text("from billing.work import show\nshow()\n")
    command = (sys.executable, "-m", "flask")
    found = run(installed, *command, folder=tmp_path, **{variable: "billing.work"})
    assert found == [*OWN, *LIBRARY]


@pytest.mark.process
@pytest.mark.parametrize("relative", [False, True])
def test_an_archive_is_the_users_own(installed: Installed, tmp_path: Path, relative: bool) -> None:
    """Code that runs out of an archive is in-app, by whatever path the archive was started."""
    source = tmp_path / "source"
    for file, text in {**BILLING, **COMMON}.items():
        path = source / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    zipapp.create_archive(source, tmp_path / "app.pyz", main="billing.main:main")
    name = "app.pyz" if relative else str(tmp_path / "app.pyz")
    found = run(installed, sys.executable, name, folder=tmp_path, PYTHONPATH=str(ROOT))
    assert found == [[function, True] for function, _ in OWN] + LIBRARY


@pytest.mark.process
def test_the_script_of_an_installer_is_not_the_users_own(installed: Installed) -> None:
    """The script that pip writes for an entry point is not in-app, and a script of the user's is."""
    code = """
import sys, runpy
from ztrace.exceptions.ownership import is_in_app
sys.modules["__main__"].__file__ = sys.argv[1]
print(str(is_in_app(sys.argv[1], "__main__")).lower())
"""
    script = installed.scripts / "billing"
    assert run(installed, sys.executable, "-c", code, str(script)) is False
    assert run(installed, sys.executable, "-c", code, __file__) is True


def test_compiled_extensions_are_not_the_users_own() -> None:
    """Frames of installed extensions, which have relative source paths, are not in-app."""
    assert gevent.Greenlet.__module__ in sys.modules
    assert not is_in_app("src/gevent/greenlet.py", gevent.Greenlet.__module__)
    assert not is_in_app("<frozen importlib._bootstrap>", "importlib._bootstrap")
    assert not is_in_app(ztrace.__file__, "ztrace")


@pytest.fixture
def fresh() -> Iterator[None]:
    """Forget which code is the user's own, before and after a test."""
    kept = ownership._configuring
    for function in (is_in_app, ownership.own_packages):
        function.cache_clear()
    yield
    ownership._configuring = kept
    for function in (is_in_app, ownership.own_packages):
        function.cache_clear()


def add_module(monkeypatch: pytest.MonkeyPatch, name: str, file: str | None) -> None:
    """Add a loaded module with a file."""
    module = types.ModuleType(name)
    if file is not None:
        module.__file__ = file
    monkeypatch.setitem(sys.modules, name, module)


def test_relative_names_are_found_by_their_module(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code with a relative file name is in-app unless the file of its module belongs to a library."""
    site = os.path.dirname(os.path.dirname(pytest.__file__))
    add_module(monkeypatch, "frozen_shop", "/srv/shop/frozen_shop.so")
    add_module(monkeypatch, "zipped_shop", "app.pyz/zipped_shop.py")
    add_module(monkeypatch, "library", f"{site}/library.cpython-311-x86_64-linux-gnu.so")
    assert is_in_app("frozen_shop.pyx", "frozen_shop")
    assert is_in_app("app.pyz/zipped_shop.py", "zipped_shop")
    assert is_in_app("rules/pens.py", "")
    assert is_in_app("rules/pens.py", "gone")
    assert is_in_app("<string>", "frozen_shop")
    assert not is_in_app("library.pyx", "library")
    assert not is_in_app("<generated>", "library")


def test_the_application_of_uwsgi(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module that uWSGI was given is in-app, and modules that lie are not asked."""
    site = os.path.dirname(os.path.dirname(pytest.__file__))

    class Lazy(types.ModuleType):
        def __getattribute__(self, name: str) -> Any:
            raise SystemExit

    add_module(monkeypatch, "shop_application", f"{site}/shop_application.py")
    uwsgi = types.ModuleType("uwsgi")
    uwsgi.opt = {"module": b"shop_application:app", "w": True}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    monkeypatch.setitem(sys.modules, "lazy", Lazy("lazy"))
    monkeypatch.setattr(sys, "orig_argv", ["uwsgi", "lazy:app"])
    assert ownership.own_packages() == ("shop_application",)
    assert is_in_app(f"{site}/shop_application.py")
    assert not is_in_app(f"{site}/shop_application_more.py")


@pytest.mark.process
def test_a_search_that_takes_long_ends(
    fresh: None, monkeypatch: pytest.MonkeyPatch, installed: Installed
) -> None:
    """The search for a distribution's packages has a deadline, and the module's own package is known."""
    add_module(monkeypatch, "billing", str(installed.packages / "billing/__init__.py"))
    add_module(monkeypatch, "billing.main", str(installed.packages / "billing/main.py"))
    monkeypatch.syspath_prepend(str(installed.packages))
    ownership._library_folders.cache_clear()
    try:
        ownership.note_configuring(vars(sys.modules["billing.main"]))
        assert ownership.own_packages() == ("acme.reports", "billing", "billing_prices")
        ownership.note_configuring(vars(sys.modules["billing.main"]))
        monkeypatch.setattr(ownership, "_MAX_SEARCH_S", -1)
        assert ownership.own_packages() == ("billing",)
    finally:
        ownership._library_folders.cache_clear()
