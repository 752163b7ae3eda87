"""The way of records out of the process: queue, batches, window, socket, acknowledgements.

The traced thread appends to a queue. Everything else here runs in one background thread.
"""
