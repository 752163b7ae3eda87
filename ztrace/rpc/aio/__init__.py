"""Driver for asyncio: server and client whose sockets the event loop reads, without zmq.asyncio."""
