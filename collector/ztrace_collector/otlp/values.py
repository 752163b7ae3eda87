"""Attribute values: from OTLP's ``AnyValue``, to it, and from the JSON text that is stored."""
