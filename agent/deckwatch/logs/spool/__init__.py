"""The on-disk spool between the log readers and the shippers."""
