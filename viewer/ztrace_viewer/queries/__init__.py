"""Queries of a store: the only SQL of the viewer, and the documents made of its rows."""
