"""Tables of the database, one class or module per subject.

Each class collects with `add` what a transaction brings about, and applies it with `write`.
"""
