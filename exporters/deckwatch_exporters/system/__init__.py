"""The host, under node_exporter's names."""
