"""RPC over ZeroMQ: any module, class or object served with no change to it, on zerorpc's wire.

    from ztrace import rpc
    rpc.serve(billing, "tcp://127.0.0.1:4242")

    async with rpc.AsyncClient("tcp://127.0.0.1:4242") as billing:
        await billing.charge("visa", amount=12)

The package needs pyzmq and msgpack alone. `import ztrace` does not import it.
"""

from ztrace.rpc.aio.client import AsyncClient
from ztrace.rpc.blocking.client import Client
from ztrace.rpc.calls import CurrentCall, cancelled, current_call, deadline, hedge, metadata
from ztrace.rpc.closing import close
from ztrace.rpc.errors import (
    DeadlineExceeded,
    JobCancelled,
    PeerLost,
    ProtocolError,
    QueueError,
    RemoteError,
    RpcError,
)
from ztrace.rpc.exposing import inline
from ztrace.rpc.gathering import gather
from ztrace.rpc.hooks import OutgoingCall
from ztrace.rpc.messaging.receiving import Puller, Subscriber
from ztrace.rpc.messaging.sending import Publisher, Pusher
from ztrace.rpc.queueing.job import Job
from ztrace.rpc.queueing.queue import Queue
from ztrace.rpc.queueing.worker import Worker
from ztrace.rpc.server import Server, serve

__all__ = [
    "AsyncClient",
    "Client",
    "CurrentCall",
    "DeadlineExceeded",
    "Job",
    "JobCancelled",
    "OutgoingCall",
    "PeerLost",
    "ProtocolError",
    "Publisher",
    "Puller",
    "Pusher",
    "Queue",
    "QueueError",
    "RemoteError",
    "RpcError",
    "Server",
    "Subscriber",
    "Worker",
    "cancelled",
    "close",
    "current_call",
    "deadline",
    "gather",
    "hedge",
    "inline",
    "metadata",
    "serve",
]
