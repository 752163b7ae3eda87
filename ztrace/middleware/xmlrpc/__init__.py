"""Middleware for xmlrpc: client and server spans of calls, and of each call within a multicall.

One idea: the context and the reply travel as HTTP headers, which peers without ztrace ignore. Transports,
dispatchers and request handlers of the program's own are subclasses that override single methods, so the
wrappers are around the methods that call those.

Source: client.py and server.py of CPython 3.11 to 3.13.
"""

from ztrace.middleware.importing import is_imported


def install() -> None:
    """Patch the client, the server, or both, as the program has imported them; once each."""
    if is_imported("xmlrpc.client"):
        from ztrace.middleware.xmlrpc import calls

        calls.wrap_client()
    if is_imported("xmlrpc.server"):
        from ztrace.middleware.xmlrpc import serving

        serving.wrap_server()
