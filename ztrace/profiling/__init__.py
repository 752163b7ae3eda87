"""Profiles: samples of the stacks of open spans, taken by a thread of ztrace's own, summed and sent on.

The thread (`profiler`) asks a source (`sources`) what the owner of each open span (`owners`) does, weighs the
samples (`sampler`), adds them up (`gathering`) under numbers of their stacks (`stacks`), and encodes the sums
every few seconds (`encoding`).
"""
