"""Types of the documents that answer questions: the same for ``--json``, the web and the library.

A document is plain JSON made by one function of `ztrace_viewer.queries`; text on the terminal is drawn from
the document and from nothing else. Fields marked "extra" are additions of ztrace to its own design, which
other programs need not write; they are as stable as the others.
"""
