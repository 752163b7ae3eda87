"""Delivery of OTLP requests to one backend, over HTTP or gRPC, by OTLP's retry rules."""
