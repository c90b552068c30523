"""Five systems that Deckwatch monitors. See README.md."""
