"""HTTP server: the page, the documents it shows, and Jaeger's query API.

One idea: the server reads the file as commands do, with one connection per request, and only for clients that
have the token.
"""
