"""Logs: files and own events, through a spool on disk, to Loki."""
