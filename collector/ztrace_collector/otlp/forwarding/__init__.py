"""Forwarding of stored spans to OTLP receivers, by a separate process with a durable position for each."""
