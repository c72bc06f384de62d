"""The old place of ``harness.port.hf_folder``, for implementations in other packages; it goes after one release."""

from harness.port.hf_folder import Folder as Folder
from harness.port.hf_folder import check_weights as check_weights
from harness.port.hf_folder import google_name as google_name
from harness.port.hf_folder import is_uncased as is_uncased
from harness.port.hf_folder import read_folder as read_folder
from harness.port.hf_folder import read_vocabulary as read_vocabulary
