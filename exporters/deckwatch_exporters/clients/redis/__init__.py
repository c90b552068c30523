"""The Redis protocol: addresses, one connection, replies."""
