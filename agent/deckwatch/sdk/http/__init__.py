"""Middleware that measures the HTTP requests of an application."""
