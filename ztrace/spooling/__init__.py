"""Files in which undelivered batches outlive their process, and their delivery by a later one."""
