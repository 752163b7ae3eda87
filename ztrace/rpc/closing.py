"""End of clients, as a function: every public attribute of a client is a remote method."""

from ztrace.rpc.aio.client import AsyncClient
from ztrace.rpc.blocking.client import Client


def close(client: Client | AsyncClient) -> None:
    """Close a client's connections; its open calls fail with `PeerLost`."""
    client._close()
