"""The names that an implementation's file needs.

Modules here import only the standard library and numpy at module level, and of this project only one another and
``harness.errors``: they run in the implementation's environment, which may contain nothing else.
"""

from harness.port.batch import Array as Array
from harness.port.batch import Batch as Batch
from harness.port.batch import IntArray as IntArray
from harness.port.batch import pad as pad
from harness.port.batch import pad_to_multiple as pad_to_multiple
from harness.port.batch import unpad as unpad
from harness.port.hf_folder import Folder as Folder
from harness.port.hf_folder import check_weights as check_weights
from harness.port.hf_folder import is_uncased as is_uncased
from harness.port.hf_folder import read_folder as read_folder
from harness.port.hf_folder import read_vocabulary as read_vocabulary
from harness.port.model import OF_TOKENS as OF_TOKENS
from harness.port.model import Model as Model
from harness.port.model import PredictsWords as PredictsWords
from harness.port.model import ShowsLayers as ShowsLayers
from harness.port.model import Trainable as Trainable
from harness.port.tensors import dtype as dtype
from harness.port.tensors import parameters_by_name as parameters_by_name
from harness.port.tensors import synchronize as synchronize
from harness.port.tensors import to_device as to_device
from harness.port.tensors import to_numpy as to_numpy
