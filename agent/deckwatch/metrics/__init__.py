"""Metrics: declarations, samples and the text formats of an exposition."""
