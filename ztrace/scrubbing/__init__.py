"""Rules for secrets, applied in the publisher's thread before anything leaves the process."""
