"""Tracing of unchanged programs: the command ``ztrace-run``, and the start-up hook of the program.

``ztrace-run`` sets variables and replaces itself with the program. Python then runs `site/sitecustomize.py`,
or the line in ``ztrace_run.pth`` where PYTHONPATH is ignored. Both load `site/_ztrace_run.py`, which imports
ztrace only when the program imports a library that ztrace traces.
"""
