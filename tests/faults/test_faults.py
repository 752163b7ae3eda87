"""Short faults done to real processes: what does not depend on the machine's speed."""

from collections.abc import Callable

import pytest

from tests.faults import collector_faults
from tests.faults.running import Length
from tests.faults.table import Row

SHORT = Length(short=True, peer=False)


@pytest.mark.parametrize(
    "fault",
    [
        collector_faults.kill,
        collector_faults.come_late,
        collector_faults.black_hole,
        collector_faults.stop,
        collector_faults.lose_acknowledgements,
        collector_faults.cut,
    ],
    ids=lambda fault: fault.__name__,
)
def test_what_is_over_one_day_loses_nothing(fault: Callable[[Length], Row]) -> None:
    """Whatever happens to the collector or on the way to it, every span is stored once."""
    assert fault(SHORT).lost == 0
