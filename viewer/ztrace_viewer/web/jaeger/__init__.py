"""Jaeger's query API, versions 1 and 3, over the database.

One idea: both versions share their queries; only parameters and the form of responses depend on the version.
"""
