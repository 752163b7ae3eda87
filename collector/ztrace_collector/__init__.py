"""Collector of ztrace: receives spans and stores call trees; the only code that writes to the database."""
