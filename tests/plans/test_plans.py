"""A few random plans; `tests.plans` runs 200."""

from pathlib import Path

import pytest

from tests.plans.running import run_plans


@pytest.mark.slow
@pytest.mark.process
def test_the_stored_trees_are_as_logged(tmp_path: Path) -> None:
    """Nested calls over mixed libraries are stored as logged, with their errors and origins."""
    spans, differences = run_plans(10, 2012, tmp_path)
    assert not differences, "\n\n".join(differences)
    assert spans > 100
