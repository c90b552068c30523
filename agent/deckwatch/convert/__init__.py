"""Converters from other tools' files to Deckwatch's config. Each format is one module with `convert(text)`.

`convert()` raises `NotConvertible` when nothing of the file can be used.
"""
