"""Sampled code of spans as OTLP profiles, in OTLP's JSON, with a link from each sample to its span.

One idea: the signal is in development, and its messages change. They come from the package
``opentelemetry-proto``, and a version that has other ones is told to the user.

Source: https://github.com/open-telemetry/opentelemetry-proto/tree/main/opentelemetry/proto/profiles
"""

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict

from ztrace.errors import SettingsError
from ztrace_collector.otlp.mapping.outgoing import Builder
from ztrace_collector.otlp.mapping.reading import StoredSpan
from ztrace_viewer.documents.profile import Frame
from ztrace_viewer.queries.stacks import read_span_stacks
from ztrace_viewer.queries.stores.store import Store

if TYPE_CHECKING:
    from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
        ExportProfilesServiceRequest,
    )
    from opentelemetry.proto.profiles.v1development.profiles_pb2 import Profile, ScopeProfiles
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

#: Attribute of a process with its service.
SERVICE_NAME = "service.name"
#: Attribute of a sample with what its code did.
STATE = "ztrace.state"
#: Name of the scope, and the unit and meaning of a sample's value.
_SCOPE, _TYPE, _UNIT = "ztrace", "wall", "nanoseconds"


def make_profiles(store: Store, batches: Iterable[Sequence[StoredSpan]]) -> Iterator[str]:
    """Yield lines, each a request with the profiles of some processes; none of spans without code.

    Args:
        store: database of the spans.
        batches: spans, as many as a request may have.

    Raises:
        SettingsError: the installed ``opentelemetry-proto`` has no profiles, or others.
    """
    check_installed()
    builder = Builder(store.process)
    for spans in batches:
        request = _Request(store)
        for resource in builder.request(spans).resource_spans:
            request.add(resource)
        if request.has_samples:
            yield request.format() + "\n"


def check_installed() -> None:
    """Check the installed messages.

    Raises:
        SettingsError: there are none, or others.
    """
    try:
        from opentelemetry.proto.profiles.v1development import profiles_pb2

        known = hasattr(profiles_pb2, "ProfilesDictionary") and "samples" in (
            profiles_pb2.Profile.DESCRIPTOR.fields_by_name
        )
    except ImportError:
        known = False
    if not known:
        raise SettingsError(
            "the installed opentelemetry-proto has no such profiles",
            hint="pip install --upgrade opentelemetry-proto",
        )


class _Request:
    """A request in the making: its profiles, and the tables that they share."""

    def __init__(self, store: Store) -> None:
        from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2

        self._store = store
        self._request: ExportProfilesServiceRequest = profiles_service_pb2.ExportProfilesServiceRequest()
        tables = self._request.dictionary
        # The first item of each table stands for none.
        for table in (
            tables.mapping_table,
            tables.location_table,
            tables.function_table,
            tables.link_table,
            tables.attribute_table,
            tables.stack_table,
        ):
            table.add()
        self._texts: dict[str, int] = {}
        self._functions: dict[tuple[str, str], int] = {}
        self._locations: dict[tuple[int, int], int] = {}
        self._stacks: dict[tuple[int, ...], int] = {(): 0}
        self._states: dict[str, int] = {}
        self._text("")

    @property
    def has_samples(self) -> bool:
        """Whether any span had code."""
        return bool(self._request.resource_profiles)

    def add(self, resource: "ResourceSpans") -> None:
        """Add the code of a process's spans, as one profile."""
        scope: ScopeProfiles | None = None
        profile: Profile | None = None
        service = next(
            (each.value.string_value for each in resource.resource.attributes if each.key == SERVICE_NAME), ""
        )
        for spans in resource.scope_spans:
            for span in spans.spans:
                stacks = read_span_stacks(self._store, span.trace_id, span.span_id, service)
                if not stacks:
                    continue
                if scope is None or profile is None:
                    added = self._request.resource_profiles.add(schema_url=resource.schema_url)
                    added.resource.CopyFrom(resource.resource)
                    scope = added.scope_profiles.add()
                    scope.scope.name = _SCOPE
                    profile = scope.profiles.add()
                    profile.sample_type.type_strindex = self._text(_TYPE)
                    profile.sample_type.unit_strindex = self._text(_UNIT)
                    # From its first span, so that the same profile has the same id again.
                    profile.profile_id = blake2b(span.trace_id + span.span_id, digest_size=16).digest()
                _extend(profile, span)
                tables = self._request.dictionary
                tables.link_table.add(trace_id=span.trace_id, span_id=span.span_id)
                for stack in stacks:
                    profile.samples.add(
                        stack_index=self._stack(stack["frames"]),
                        attribute_indices=[self._state(stack["state"])],
                        link_index=len(tables.link_table) - 1,
                        values=[stack["ns"]],
                    )

    def format(self) -> str:
        """Return the request as JSON on one line, with ids in hex as OTLP has them."""
        content = MessageToDict(self._request, use_integers_for_enums=True)
        for link in content["dictionary"]["linkTable"]:
            _spell_ids(link, "traceId", "spanId")
        for resource in content["resourceProfiles"]:
            for scope in resource["scopeProfiles"]:
                for profile in scope["profiles"]:
                    _spell_ids(profile, "profileId")
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"))

    def _text(self, text: str) -> int:
        place = self._texts.get(text)
        if place is None:
            place = self._texts[text] = len(self._texts)
            self._request.dictionary.string_table.append(text)
        return place

    def _stack(self, frames: list[Frame]) -> int:
        key = tuple(self._locate(frame) for frame in reversed(frames))  # The innermost first.
        place = self._stacks.get(key)
        if place is None:
            place = self._stacks[key] = len(self._stacks)
            self._request.dictionary.stack_table.add(location_indices=key)
        return place

    def _locate(self, frame: Frame) -> int:
        tables = self._request.dictionary
        named = frame["function"], frame["file"]
        function = self._functions.get(named)
        if function is None:
            function = self._functions[named] = len(tables.function_table)
            name, file = map(self._text, named)
            tables.function_table.add(name_strindex=name, filename_strindex=file)
        key = function, frame["line"]
        place = self._locations.get(key)
        if place is None:
            place = self._locations[key] = len(tables.location_table)
            tables.location_table.add().lines.add(function_index=function, line=frame["line"])
        return place

    def _state(self, state: str) -> int:
        place = self._states.get(state)
        if place is None:
            table = self._request.dictionary.attribute_table
            place = self._states[state] = len(table)
            table.add(key_strindex=self._text(STATE)).value.string_value = state
        return place


def _extend(profile: "Profile", span: "Span") -> None:
    """Extend the time of a profile by that of a span."""
    begin_ns, end_ns = span.start_time_unix_nano, span.end_time_unix_nano
    if profile.time_unix_nano:
        end_ns = max(end_ns, profile.time_unix_nano + profile.duration_nano)
        begin_ns = min(begin_ns, profile.time_unix_nano)
    profile.time_unix_nano = begin_ns
    profile.duration_nano = max(0, end_ns - begin_ns)


def _spell_ids(message: dict[str, str], *names: str) -> None:
    for name in names:
        if name in message:
            message[name] = base64.b64decode(message[name]).hex()
