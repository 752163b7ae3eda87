"""Middleware for Pyro5: client and server spans of calls, producer and consumer spans of oneway calls.

One idea: the context and the reply travel as an annotation, which Pyro5 carries beside every message and a
peer without ztrace ignores. The wrappers are around the functions that find a method or property for a
request, so calls within a batch have spans of their own, and Pyro5's own objects have none.

Source: client.py and server.py of Pyro5 5.14 to 5.17.
"""

from ztrace.middleware.importing import is_imported


def install() -> None:
    """Patch the client, the server, or both, as the program has imported them; once each."""
    if is_imported("Pyro5.client"):
        from ztrace.middleware.pyro5 import calls

        calls.wrap_client()
    if is_imported("Pyro5.server"):
        from ztrace.middleware.pyro5 import serving

        serving.wrap_server()
