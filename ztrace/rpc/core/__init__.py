"""Protocol of calls without sockets, threads or clocks: frames and times go in, frames come out."""
