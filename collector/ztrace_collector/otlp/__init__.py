"""OpenTelemetry's protocol, in and out: stored spans are forwarded as OTLP, and OTLP is received.

One idea: pure functions stand between the tables and the messages of opentelemetry-proto; the code that
receives, sends, forwards or writes files knows neither.

Nothing is imported here, since the rooms below need the extra ``collector``, which an agent alone does not
have.
"""
