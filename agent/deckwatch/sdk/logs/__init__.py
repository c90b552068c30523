"""Logs of applications: JSON lines, written in the background, that the agent reads."""
