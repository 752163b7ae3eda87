"""Records of the exceptions that end spans, with origin, frames, texts and causes.

An exception is recorded once, at its origin; every other span that it passes refers to the origin.
"""
