"""`python -m veca_edge` is `veca-edge`."""

from .cli import main

if __name__ == "__main__":
    main()
