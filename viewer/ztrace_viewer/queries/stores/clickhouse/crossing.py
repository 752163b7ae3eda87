"""Exception groups of several journals: what their rows have only together."""

import json
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

from ztrace_collector.tables.grouping import widen
from ztrace_viewer.queries.stores.answers import GroupRow
from ztrace_viewer.queries.stores.clickhouse.reading import Reader

_LOOK = "SELECT uniqExact(journal) > 1, (SELECT count() > 0 FROM corrected_minutes) FROM journals"
#: Templates of some groups in each journal, and services whose spans were passed in another journal.
_PARTS = """
SELECT g.fingerprint, g.templates, c.services
FROM (
    SELECT fingerprint, arrayMap(each -> each.2, arraySort(groupArray((first_ns, template)))) AS templates
    FROM exception_groups FINAL WHERE fingerprint IN ({groups}) GROUP BY fingerprint
) AS g LEFT ANY JOIN (
    SELECT toString(exception_group) AS fingerprint, groupUniqArrayArray(services) AS services
    FROM corrected_minutes WHERE exception_group IN ({groups}) GROUP BY fingerprint
) AS c ON c.fingerprint = g.fingerprint
"""


class Journals(NamedTuple):
    """Whether there are several journals, and corrections of what each of them knows of exceptions."""

    are_several: bool
    are_corrected: bool


def look_at_journals(reader: Reader) -> Journals:
    """Return what has to be joined."""
    return Journals._make(map(bool, reader.query(_LOOK)[0]))


def join_journals(reader: Reader, groups: Sequence[GroupRow]) -> list[GroupRow]:
    """Return merged groups with the services and the template of all journals."""
    if not groups:
        return []
    values: dict[str, object] = {f"group{place}": each.fingerprint for place, each in enumerate(groups)}
    names = ", ".join(f"{{{name}:String}}" for name in values)
    rows = reader.query(_PARTS.replace("{groups}", names), values)
    parts = {fingerprint: (templates, services) for fingerprint, templates, services in rows}
    joined = list[GroupRow]()
    for each in groups:
        templates, services = parts[each.fingerprint]
        joined.append(
            each._replace(
                services=_write({*json.loads(each.services), *services}), template=reduce(widen, templates)
            )
        )
    return joined


def _write(services: set[str]) -> str:
    return json.dumps(sorted(services), ensure_ascii=False, separators=(",", ":"))
