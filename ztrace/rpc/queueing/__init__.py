"""Job queue without a broker: jobs are kept by their producer, and acknowledged after the work."""
