"""What is served over HTTP: Jaeger's query API, and one page that says so.

One idea: it reads the file as every command does, a connection to a question, and whoever asks has the token.
"""
