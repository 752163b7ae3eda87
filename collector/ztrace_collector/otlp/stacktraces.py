"""Exceptions as Python prints them: records to text, and text to records."""
