"""``python -m eventbus``: the command line."""

import sys

from eventbus.cli import main

if __name__ == "__main__":
    sys.exit(main())
