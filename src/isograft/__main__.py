"""`python -m isograft` is the command `isograft`."""

from isograft.cli import main

if __name__ == "__main__":
    main()
