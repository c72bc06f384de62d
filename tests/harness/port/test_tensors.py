"""What implementations that compute with torch share."""

import pytest

import reference
from harness.port.tensors import dtype


@pytest.mark.parametrize("name", ["fp64", "fp32", "bf16", "fp16"])
def test_a_precision_is_the_same_type_in_the_harness_and_in_the_reference(name: str) -> None:
    assert dtype(name) == reference.torch_dtype(name)


@pytest.mark.parametrize("of", [dtype, reference.torch_dtype])
def test_a_precision_that_torch_has_not_is_refused_with_those_that_there_are(of: object) -> None:
    assert callable(of)
    with pytest.raises(ValueError, match="precision 'fp8' is not one of fp64, fp32, bf16, fp16"):
        of("fp8")
