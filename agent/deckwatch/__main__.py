"""`python -m deckwatch` is the command line."""

from deckwatch.cli import main

if __name__ == "__main__":
    main()
