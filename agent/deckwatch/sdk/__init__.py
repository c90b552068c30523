"""The application library: instruments that `import deckwatch` offers to applications."""
