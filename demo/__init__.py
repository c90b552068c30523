"""`make demo`: the agent and all that it works with, on this machine, until Ctrl-C. README.md tells more."""
