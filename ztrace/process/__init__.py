"""The process that is traced: its descriptors, threads, forks and endings, all of which are the program's."""
