"""The decorator `ztrace.trace`, and the descriptors, methods and partial functions that it rebuilds."""
