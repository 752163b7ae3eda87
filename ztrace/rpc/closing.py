"""End of clients and senders, as a function: each of their public attributes is a remote method."""

from ztrace.rpc.aio.client import AsyncClient
from ztrace.rpc.blocking.client import Client
from ztrace.rpc.messaging.sending import Publisher, Pusher


def close(client: Client | AsyncClient | Pusher | Publisher) -> None:
    """Close a client's connections; its open calls fail with `PeerLost`, and messages are delivered."""
    client._close()
