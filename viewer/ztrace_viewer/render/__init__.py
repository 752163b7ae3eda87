"""Documents as text on the terminal, one module per kind of picture."""
