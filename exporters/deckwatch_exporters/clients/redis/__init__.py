"""The Redis protocol: addresses, connections, replies."""
