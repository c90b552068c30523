"""Django's commands of the records."""
