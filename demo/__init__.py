"""`make demo`: runs the agent and everything it works with on this host until Ctrl-C. See README.md."""
