"""Every question that the viewer asks of the database, and the only place of its SQL."""
