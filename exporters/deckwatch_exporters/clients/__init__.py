"""Protocol code that several exporters share."""
