"""HTTP server: the page, the documents it shows, and Jaeger's query API.

One idea: the server reads the database as commands do, with one connection for each request at a time, and
only for clients that have the token.
"""
