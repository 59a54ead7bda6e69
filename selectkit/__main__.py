"""`python -m selectkit`."""

from selectkit.cli.main import main

if __name__ == "__main__":
    main()
