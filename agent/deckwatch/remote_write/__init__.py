"""Sends the agent's metrics by Prometheus' remote write protocol, for hosts that cannot be scraped."""
