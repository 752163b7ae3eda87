"""Terminal output: screen, safe characters, and the text forms of times, durations and sizes."""
