"""The shell: sockets, tasks and clocks around the cores."""
