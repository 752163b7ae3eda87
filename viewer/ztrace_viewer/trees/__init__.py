"""Pure functions from rows of spans to call trees, their states, gaps and lanes."""
