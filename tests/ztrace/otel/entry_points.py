"""Entry points of instrumentations that no installed package has."""

from pathlib import Path


def register(folder: Path, *names_and_targets: str) -> None:
    """Write metadata of a distribution with these instrumentations into a folder of the import path."""
    names, targets = names_and_targets[::2], names_and_targets[1::2]
    info = folder / "instrumentations-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: instrumentations\nVersion: 1.0\n")
    lines = [f"{name} = {target}" for name, target in zip(names, targets, strict=True)]
    (info / "entry_points.txt").write_text("\n".join(["[opentelemetry_instrumentor]", *lines]))
