"""The HTTP server: the application, its listener, TLS and authentication."""
