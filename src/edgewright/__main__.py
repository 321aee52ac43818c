"""`python -m edgewright` is the `edgewright` command."""

from edgewright.cli import main

if __name__ == "__main__":
    main()
