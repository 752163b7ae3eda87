"""Checks of everything that peers send, from frames to columns of values that the tables can hold.

Bad fields are refused or replaced span by span, and each is counted by its reason.
"""
