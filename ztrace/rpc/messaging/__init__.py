"""Messages without an answer: pushed to one of several pullers, or published to all subscribers."""
