"""Mapping between ztrace's spans and OpenTelemetry's, in both directions, as protobuf and as JSON."""
