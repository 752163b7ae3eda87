"""Profiles by call path for programs that draw flame graphs.

One idea: the width of a call is its critical time, so that calls side by side do not add up to more than the
time of their root.

Sources: https://github.com/brendangregg/FlameGraph, https://www.speedscope.app/file-format-schema.json
"""

import json

from ztrace import __version__
from ztrace_viewer.documents.profile import PathStep, ProfileDocument
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.screen import name_call

_SPEEDSCOPE = "https://www.speedscope.app/file-format-schema.json"


def write_collapsed(document: ProfileDocument) -> str:
    """Return a profile as collapsed stacks: a line for each path, names between ``;``, and nanoseconds."""
    lines = []
    for path in document["paths"]:
        if path["critical_ns"]:
            names = ";".join(_name(step).replace(";", ",") for step in path["path"])
            lines.append(f"{names} {path['critical_ns']}\n")
    return "".join(lines)


def write_speedscope(document: ProfileDocument) -> str:
    """Return a profile as a file of speedscope, with a profile for each root."""
    frames: dict[str, int] = {}
    roots: dict[str, tuple[list[list[int]], list[int]]] = {}
    for path in document["paths"]:
        if path["critical_ns"]:
            names = [_name(step) for step in path["path"]]
            samples, weights = roots.setdefault(names[0], ([], []))
            samples.append([frames.setdefault(name, len(frames)) for name in names])
            weights.append(path["critical_ns"])
    profiles = [
        {
            "type": "sampled",
            "name": name,
            "unit": "nanoseconds",
            "startValue": 0,
            "endValue": sum(weights),
            "samples": samples,
            "weights": weights,
        }
        for name, (samples, weights) in roots.items()
    ]
    whole = {
        "$schema": _SPEEDSCOPE,
        "exporter": f"ztrace@{__version__}",
        "name": "ztrace profile",
        "profiles": profiles,
        "shared": {"frames": [{"name": name} for name in frames]},
    }
    return json.dumps(whole, ensure_ascii=False) + "\n"


def _name(step: PathStep) -> str:
    return name_call(step["service"], step["name"], step["kind"]) if step["service"] else clean(step["name"])
