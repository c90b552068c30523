"""Log lines to entries: formats, levels, timestamps, rules and redaction."""
