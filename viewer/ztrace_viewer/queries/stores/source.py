"""Source of answers, as given with --db; here, for options that must not import a store."""

from pathlib import Path
from typing import TypeAlias

from ztrace_collector.clickhouse.address import ClickHouseAddress

Source: TypeAlias = Path | ClickHouseAddress
