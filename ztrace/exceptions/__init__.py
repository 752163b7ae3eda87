"""Records of the exceptions that end spans: where each began, by which frames, with which texts.

An exception is recorded once, at its origin; every other span that it passes refers to that one.
"""
