"""What runs on this machine, and a config that monitors it."""
