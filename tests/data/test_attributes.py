import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from recspark.data.attributes import Encoding, encoded, learn_encoding
from recspark.errors import UserError

TYPES = "user_id bigint, attributes map<string,string>"
PEOPLE = [
    (1, {"age": "20", "job": "writer"}),
    (2, {"age": "40", "job": "writer"}),
    (3, {"age": "old", "job": "king"}),
    (4, None),
    (5, {"age": "nan", "job": "artist"}),
    (6, {"job": "artist"}),
]


def test_numbers_are_standardised_and_rare_or_missing_values_have_no_place():
    encoding = Encoding({"age": (30.0, 10.0)}, {"job": ("artist", "writer")})
    table = pd.DataFrame({"age": [20.0, None, 45.0], "job": ["writer", None, "king"]})
    assert encoding.encode(table).tolist() == [[-1, 0, 1], [0, 0, 0], [1.5, 0, 0]]
    assert encoding.names == ["age", "job=artist", "job=writer"]


def test_mean_deviation_and_common_values_are_learned_from_those_who_have_them(spark: SparkSession):
    users = spark.createDataFrame(PEOPLE, TYPES)
    encoding = learn_encoding(users, {"age": "numeric", "job": "category"}, 10, 2, "here")
    assert encoding.categories == {"job": ("artist", "writer")}
    np.testing.assert_allclose(encoding.numbers["age"], (30, 10))
    found = {row.user_id: row.vector for row in encoded(users, encoding).collect()}
    assert found == {1: [-1, 0, 1], 2: [1, 0, 1], 3: [0, 0, 0], 4: [0, 0, 0], 5: [0, 1, 0], 6: [0, 1, 0]}


def test_only_the_commonest_values_count_where_there_are_too_many(spark: SparkSession):
    users = spark.createDataFrame([*PEOPLE, (7, {"job": "writer"})], TYPES)
    assert learn_encoding(users, {"job": "category"}, 1, 1, "here").categories == {"job": ("writer",)}


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ({"height": "numeric"}, r"here names height, which no user has; users have \['age', 'job'\]"),
        ({"job": "numeric"}, "here.job is numeric, but no user has a number there"),
    ],
)
def test_an_attribute_that_is_not_there_is_the_users_error(spark: SparkSession, kinds, said):
    with pytest.raises(UserError, match=said):
        learn_encoding(spark.createDataFrame(PEOPLE, TYPES), kinds, 10, 1, "here")
