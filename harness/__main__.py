"""``python -m harness``: see ``harness.cli``."""

import platform
import sys

# Whoever runs from a checkout was not stopped by pip; the modules below need what older versions lack.
if sys.version_info < (3, 11):  # noqa: UP036
    print(f"BERT Atlas needs Python 3.11 or newer, and this is {platform.python_version()}", file=sys.stderr)
    sys.exit(2)

from harness.cli import main

main()
