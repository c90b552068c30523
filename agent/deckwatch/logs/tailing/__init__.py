"""Log files: discovery, following through rotation, and how far each has been read."""
