"""ztrace's collector: receives spans, stores call trees, the only code that writes SQL."""
