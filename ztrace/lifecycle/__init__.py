"""Parts of the start and the end of a span that few spans need: odd arguments, generators, interrupts."""
