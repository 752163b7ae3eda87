"""Thresholds of consistent sampling, by which traces are kept and weighed.

One idea: the last 7 bytes of a trace id are random, so a trace is in a share if they reach the share's
threshold, and every program that decides so keeps the same traces. OpenTelemetry hands the threshold on in
``tracestate``, so that backends can weigh.

Source: https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/
"""

import re

#: Bytes of a trace id that are random, and the number of their values.
RANDOM_BYTES, RANDOM_VALUES = 7, 1 << 56

#: OpenTelemetry's entry of ``tracestate``, and the threshold within.
_ENTRY = re.compile(r"(?:^|,)\s*ot=([^,]*)")
_THRESHOLD = re.compile(r"(?:^|;)th:([0-9a-f]{1,14})(?=;|\s*$)")


def threshold_of(share: float) -> int:
    """Return the threshold of a share: random values from the threshold on are in the share."""
    return RANDOM_VALUES - round(share * RANDOM_VALUES)


def is_chosen(trace_id: bytes, threshold: int) -> bool:
    """Return whether a trace is in the share of a threshold."""
    return int.from_bytes(trace_id[-RANDOM_BYTES:], "big") >= threshold


def weigh(threshold: int | None) -> float:
    """Return the number of traces that one kept by a threshold stands for; 1 for None."""
    return 1.0 if threshold is None else RANDOM_VALUES / (RANDOM_VALUES - threshold)


def write_threshold(trace_state: str, threshold: int) -> str:
    """Return a ``tracestate`` with a threshold, or with its own if that keeps less."""
    entry = _ENTRY.search(trace_state)
    fields = entry[1].strip() if entry else ""
    own = _THRESHOLD.search(fields)
    if own and int(own[1].ljust(2 * RANDOM_BYTES, "0"), 16) >= threshold:
        return trace_state
    others = [field for field in fields.split(";") if field and not field.startswith("th:")]
    digits = f"{threshold:0{2 * RANDOM_BYTES}x}".rstrip("0") or "0"
    made = ";".join([f"ot=th:{digits}", *others])
    rest = [each.strip() for each in trace_state.split(",") if not each.strip().startswith("ot=")]
    return ",".join([made, *filter(None, rest)])
