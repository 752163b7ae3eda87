"""Rules for secrets, applied in the background thread before anything leaves the process."""
