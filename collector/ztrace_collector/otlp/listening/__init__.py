"""Servers that accept OTLP over HTTP and gRPC, and answer after the commit."""
