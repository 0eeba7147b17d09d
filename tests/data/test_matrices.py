"""A matrix comes back as it was put down, dense or sparse."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from recspark.data.matrices import write_matrix


@pytest.mark.parametrize("shape", [(2, 3), (2, 0)])
def test_what_is_written_is_read_whatever_its_layout(tmp_path, shape):
    numbers = np.arange(6, dtype=np.float32)[: shape[0] * shape[1]].reshape(shape)
    for matrix in (numbers, np.asfortranarray(numbers)):
        np.testing.assert_array_equal(write_matrix(matrix, str(tmp_path)).read(), numbers)
    found = write_matrix(csr_matrix(numbers), str(tmp_path)).read()
    assert isinstance(found, csr_matrix)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.toarray(), numbers)
