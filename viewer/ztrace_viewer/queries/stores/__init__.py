"""Stores of traces: the questions they answer, the rows of the answers, and one folder for each store."""
