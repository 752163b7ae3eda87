"""The notebook of the documentation, run from its first cell to its last."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from tests.viewer.queries.test_profile import settle
from tests.viewer.stored import NOON, checkout, trace_id

NOTEBOOK = Path(__file__).parents[2] / "docs/how-to/read-with-python.ipynb"


def test_the_notebook_is_kept_without_outputs() -> None:
    """No cell has an output or a number, which would differ after each run."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 7
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.trouble
@pytest.mark.process
@pytest.mark.filterwarnings("default")  # Those of the notebook's own libraries.
def test_the_notebook_runs(tmp_path: Path) -> None:
    """Each cell runs on a file with failed checkouts, and those at the end of a question show a table."""
    # By name, since its types are partial where it is installed.
    read = import_module("nbformat").reads
    run = import_module("nbclient").NotebookClient
    settle(tmp_path / "shop.db", checkout(trace_id(1), NOON), checkout(trace_id(2), NOON, 0.5))
    notebook = read(NOTEBOOK.read_text(), as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    run(notebook, timeout=60, kernel_name="python3", resources=resources).execute()
    shown = [
        "".join(output.get("text") or output["data"]["text/plain"] for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    assert "shop" in shown[1]
    assert "shop.checkout ›" in shown[3].replace("...", "…")
    assert "ZeroDivisionError" in shown[5]
    assert "stock.reserve  ZeroDivisionError" in shown[6]
    assert shown[7].startswith("all")
    assert "ada" in shown[7]
    assert "spans_lost        0" in shown[8]
