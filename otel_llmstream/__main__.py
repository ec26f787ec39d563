"""`python -m otel_llmstream` is the command `otel-llmstream`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
