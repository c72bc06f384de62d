"""The old place of ``harness.worker.messages``, for implementations in other packages; it goes after one release."""

from harness.worker.messages import Array as Array
