"""The old place of ``harness.port.batch``, for implementations in other packages; it goes after one release."""

from harness.port.batch import IGNORE as IGNORE
from harness.port.batch import SEQUENCES as SEQUENCES
from harness.port.batch import TOKENS as TOKENS
from harness.port.batch import Batch as Batch
from harness.port.batch import IntArray as IntArray
from harness.port.batch import by_tokens as by_tokens
from harness.port.batch import in_given_order as in_given_order
from harness.port.batch import in_order as in_order
from harness.port.batch import pad as pad
from harness.port.batch import pad_to_multiple as pad_to_multiple
