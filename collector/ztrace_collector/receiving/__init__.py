"""Sources of spans: the ZeroMQ socket with its keys, the inbox of other threads, spools of dead processes."""
