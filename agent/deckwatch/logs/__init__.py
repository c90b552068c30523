"""Log shipping: reads log files and the agent's own log, spools entries on disk and pushes them to Loki."""
