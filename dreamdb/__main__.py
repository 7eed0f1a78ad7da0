"""``python -m dreamdb`` is the command line."""

from dreamdb.cli import main

if __name__ == "__main__":
    main()
