"""Forwarding of stored spans to backends by a process of its own, with a durable position for each."""
