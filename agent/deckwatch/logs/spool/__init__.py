"""The spool on disk between those who read logs and those who ship them."""
