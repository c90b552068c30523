"""Collection: runs of collectors, when they happen, and the latest snapshot of each."""
