"""The old place of ``harness.port.Array``, for implementations in other packages; it goes after one release."""

from harness.port.batch import Array as Array
