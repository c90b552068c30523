"""Shipping: batches from the spool to Loki."""
