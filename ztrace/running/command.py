"""The command ``ztrace-run``: runs a program with tracing, without a line of it changed."""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ztrace.libraries import LIBRARIES

#: Folder that goes into PYTHONPATH; its files are run by the program's Python at start-up.
SITE = Path(__file__).parent / "site"
#: Variables that the hook reads: the folder, and the modules whose import starts tracing.
FOLDER_VARIABLE, MODULES_VARIABLE = "ZTRACE_RUN", "ZTRACE_RUN_MODULES"

_DESCRIPTION = """\
Run a program with tracing, without a line of it changed. Every library that ztrace supports is traced when
the program imports it, in its child processes too. All other settings are ZTRACE_* variables.

examples:
  ztrace-run python server.py
  ztrace-run --service billing python -m billing --port 4242
  ztrace-run --service shop gunicorn -w 4 shop:app
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Replace this process with the program; return only by `SystemExit`."""
    parser = argparse.ArgumentParser(
        "ztrace-run",
        usage="ztrace-run [--service NAME] PROGRAM [ARGUMENT ...]",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--service", metavar="NAME", help="service of the spans; default: the script's name")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="program to run, with its arguments")
    options = parser.parse_args(arguments)
    command = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not command:
        parser.error("name the program to run, as in: ztrace-run python server.py")
    path = shutil.which(command[0])
    if path is None:
        sys.stderr.write(f"ztrace-run: {command[0]}: no such program; give its path, or put it on the PATH\n")
        sys.exit(127)
    obstacle = find_obstacle(command)
    if obstacle:
        sys.stderr.write(f"ztrace-run: not tracing: {obstacle}\n")
    try:
        os.execve(path, command, make_environment(os.environ, options.service))
    except OSError as error:
        sys.stderr.write(f"ztrace-run: {path}: {error.strerror}\n")
        sys.exit(126)


def make_environment(environ: "os._Environ[str] | dict[str, str]", service: str | None) -> dict[str, str]:
    """Return the variables of a program that is to be traced, with those of its children."""
    modules = ["ztrace", *(module for row in LIBRARIES.values() if row.system for module in row.modules)]
    paths = [str(SITE), *filter(None, environ.get("PYTHONPATH", "").split(os.pathsep))]
    added = {
        FOLDER_VARIABLE: str(SITE),
        MODULES_VARIABLE: ",".join(modules),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
    }
    return {**environ, **added, **({"ZTRACE_SERVICE": service} if service else {})}


def find_obstacle(command: Sequence[str]) -> str:
    """Return the reason why a command cannot be traced, empty if none is apparent."""
    name = os.path.basename(command[0])
    flags = []
    for argument in command[1:]:
        if not argument.startswith("-") or argument.startswith("--") or argument in ("-c", "-m"):
            break
        flags.append(argument)
    if name.startswith("python") and any("S" in flag for flag in flags if not flag.startswith(("-W", "-X"))):
        return "python -S runs no start-up hooks; call ztrace.configure and ztrace.instrument in the program"
    if name == "env" and ("-i" in flags or "-" in flags):
        return "env -i removes the variables that start tracing; put ztrace-run behind it"
    if name.startswith("uwsgi"):
        return "uWSGI embeds Python; call ztrace.configure and ztrace.instrument in the application"
    return ""
