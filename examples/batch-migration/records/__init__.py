"""The records that are migrated."""
