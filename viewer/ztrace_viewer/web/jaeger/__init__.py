"""Jaeger's query API, version 1 and 3, over the database.

One idea: both versions ask the same questions, so a question is answered once, and only the parameters and
the form of the answer belong to a version.
"""
