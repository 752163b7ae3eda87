"""Tables of the database, one class or module per subject.

A class collects the changes of a transaction with `add`, and applies them with `write`.
"""
