"""HTTP server: Jaeger's query API, and a page that explains it.

One idea: the server reads the file as commands do, with one connection per request, and only for clients that
have the token.
"""
