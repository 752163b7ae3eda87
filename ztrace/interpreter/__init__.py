"""Facts of CPython's frames and bytecode: generators that wait, exceptions that come from outside."""
