"""Documents as text for people: one module per kind of picture."""
