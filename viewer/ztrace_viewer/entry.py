"""Entry point of the ``ztrace`` command: failures before and around every command.

One idea: the base install is the agent alone, so the command exists without the packages that it needs. A
missing package, found at any moment, becomes one line that says which extra to install.
"""

import os
import sys

from ztrace_viewer.commands.statuses import INTERRUPTED, WRONG_INPUT

#: Extra that installs a module.
EXTRAS = {
    "click": "all",
    "rich": "all",
    "opentelemetry": "all",
    "starlette": "all",
    "uvicorn": "all",
    "sqlite_utils": "collector",
    "pyarrow": "parquet",
}


def main() -> int:
    """Run the command line and return its exit status."""
    # Imported here, so that as little as possible precedes the handling of signals.
    try:
        from ztrace_viewer import interrupts
    except KeyboardInterrupt:
        return INTERRUPTED
    try:
        interrupts.take_over()
        try:
            return _explain()
        finally:
            interrupts.end()
    except KeyboardInterrupt:
        return interrupts.exit_status()


def _explain() -> int:
    """Run the command line, and print expected failures on one line."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        status = _run()
        sys.stdout.flush()
        return status
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        extra = EXTRAS.get(module)
        if extra is None:
            raise
        print(f"ztrace: {module} is not installed; pip install 'ztrace[{extra}]'", file=sys.stderr)
        return WRONG_INPUT
    except BrokenPipeError:
        # The reader has closed the pipe. Python flushes once more at exit: discard that.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        from ztrace_viewer.terminal.saying import complain

        complain(f"ztrace: {error}")
        return WRONG_INPUT


def _run() -> int:
    from ztrace_viewer.cli import run
    from ztrace_viewer.terminal.characters import draw_plainly

    draw_plainly()
    return run(sys.argv[1:])
