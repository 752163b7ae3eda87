"""Driver for threads and gevent: a client whose callers read its sockets themselves, without a thread."""
