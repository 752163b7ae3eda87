"""OpenTelemetry's protocol at both edges: what is stored goes out as OTLP, and OTLP comes in.

One idea: between the tables and the messages of opentelemetry-proto stand pure functions, and what receives,
sends, forwards or writes files knows nothing of either.

Nothing is imported here: the modules below need the extra ``collector``, which an agent alone has not.
"""
