"""Tools for AI agents, by the Model Context Protocol.

One idea: an answer is the text a person would read, without colour, of at most 16 kB. It says what it leaves
out, and has the ids with which to go on.
"""
