"""Validation of everything that peers send, from frames to columns of values that the tables can hold.

Invalid fields are refused or corrected span by span, and counted by reason.
"""
