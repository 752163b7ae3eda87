"""Terminal output: screen, safe characters, progress, and text forms of times, durations and sizes."""
