"""Exit statuses of the command line, besides 0."""

#: Nothing matches what was asked for.
NOTHING_FOUND = 1
#: An option, an argument or a file cannot be used.
WRONG_INPUT = 2
#: Ctrl-C; 128 + SIGINT, as a shell reports it.
INTERRUPTED = 130
