"""Profiles by call path and code for programs that draw flame graphs.

Sources: https://github.com/brendangregg/FlameGraph, https://www.speedscope.app/file-format-schema.json
"""

import json
from pathlib import PurePath

from ztrace import __version__
from ztrace_viewer.documents.profile import ProfileDocument
from ztrace_viewer.export.chains import Box, make_chains

_SPEEDSCOPE = "https://www.speedscope.app/file-format-schema.json"


def write_collapsed(document: ProfileDocument) -> str:
    """Return a profile as collapsed stacks: a line for each chain, names between ``;``, and nanoseconds."""
    return "".join(
        f"{';'.join(_name(box).replace(';', ',') for box in chain.boxes)} {chain.ns}\n"
        for chain in make_chains(document)
    )


def write_speedscope(document: ProfileDocument) -> str:
    """Return a profile as a file of speedscope, with a profile for each root."""
    frames: dict[Box, int] = {}
    roots: dict[str, tuple[list[list[int]], list[int]]] = {}
    for chain in make_chains(document):
        samples, weights = roots.setdefault(chain.boxes[0].name, ([], []))
        samples.append([frames.setdefault(box, len(frames)) for box in chain.boxes])
        weights.append(chain.ns)
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
        "shared": {"frames": [_describe(box) for box in frames]},
    }
    return json.dumps(whole, ensure_ascii=False) + "\n"


def _name(box: Box) -> str:
    return f"{box.name} {PurePath(box.file).name}:{box.line}" if box.file else box.name


def _describe(box: Box) -> dict[str, object]:
    return {"name": box.name, "file": box.file, "line": box.line} if box.file else {"name": box.name}
