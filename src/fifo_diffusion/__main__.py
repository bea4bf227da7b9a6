"""`python -m fifo_diffusion` is `fifo-diffusion`."""

import sys

from fifo_diffusion.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
