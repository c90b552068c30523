"""Deckwatch: what applications import. (The agent's own parts are its submodules.)"""

__version__ = "0.1.0"
