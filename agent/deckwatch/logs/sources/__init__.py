"""Log sources that are not files."""
