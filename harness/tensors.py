"""The old place of ``harness.port.tensors``, for implementations in other packages; it goes after one release."""

from harness.port.tensors import dtype as dtype
from harness.port.tensors import parameters_by_name as parameters_by_name
from harness.port.tensors import synchronize as synchronize
from harness.port.tensors import to_device as to_device
from harness.port.tensors import to_numpy as to_numpy
