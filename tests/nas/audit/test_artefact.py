"""A file is audited as shipped: it answers, and it has to be the candidate's."""

from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import pytest
import torch

from nas.audit.artefact import open_artefact
from nas.audit.artefact import oracle_of
from nas.audit.oracles import of_network
from nas.deploy.onnx_file import to_onnx
from nas.preprocessing.arrangement import Arrangement
from nas.preprocessing.preprocessing import Preprocessing
from nas.preprocessing.preprocessing import unchanged
from nas.spaces import as_run
from nas.spaces import space_named
from search_spaces.network import build

ROWS = np.random.default_rng(0).normal(size=(40, 1, 8, 8)).astype(np.float32)
RECORDS = torch.from_numpy(ROWS)


def network_of(seed=0, space="conv"):
    found = as_run(space_named(space, (1, 8, 8), 10), 8)
    network = build(found.decode(found.reference), seed=seed)
    network(RECORDS)
    return network.eval()


def writer(network, behind=None):
    return partial(to_onnx, network.architecture, records=RECORDS, preprocessing=behind)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "int8.onnx"
    network = network_of()
    path.write_bytes(writer(network)(network, "int8").SerializeToString())
    return path


def opened(path, network, behind=None):
    return open_artefact(path, network, ROWS, behind or unchanged((1, 8, 8)), writer(network, behind))


def test_the_file_answers_and_shows_what_its_last_layer_reads(file):
    network = network_of()
    found = opened(file, network)
    assert (found.name, found.precision) == ("int8.onnx", "int8")
    theirs = of_network(network)
    np.testing.assert_allclose(found.oracle.query(ROWS), theirs.query(ROWS), atol=0.05)
    np.testing.assert_allclose(found.oracle.activations(ROWS), theirs.activations(ROWS), atol=0.05)
    assert not np.array_equal(found.oracle.query(ROWS), theirs.query(ROWS))
    # A shadow model is asked as such a file too.
    shadow = network_of(seed=1)
    own = oracle_of(writer(shadow)(shadow, "int8"), unchanged((1, 8, 8)))
    np.testing.assert_array_equal(found.of_shadow(shadow).query(ROWS), own.query(ROWS))


def test_a_file_of_another_network_is_refused(file):
    with pytest.raises(ValueError, match=r"^expected a file of the network \w+; .*int8\.onnx is of \w+$"):
        opened(file, network_of(space="mlp"))


def test_a_file_of_other_weights_is_refused(file):
    with pytest.raises(
        ValueError, match=r"^expected the answers of the candidate's int8 file; those of .* for 0% of 40"
    ):
        opened(file, network_of(seed=1))


def test_a_file_that_was_changed_is_refused(file):
    model = onnx.load(file)
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == "op1_conv_weight_scale"]
    bias.raw_data = (2 * np.frombuffer(bias.raw_data, np.float32)).tobytes()
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"or changed since$"):
        opened(file, network_of())


def test_a_file_that_names_no_network_is_refused(file):
    model = onnx.load(file)
    del model.metadata_props[:]
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"^expected a file that nas export wrote, which names its network; "):
        opened(file, network_of())


def test_pixels_are_given_as_the_file_takes_them():
    behind = Preprocessing(
        Arrangement((8, 8, 1), (2, 0, 1), (1, 8, 8)),
        np.float32([0.4]),
        np.float32([0.2]),
        True,
        (),
        tuple("0123456789"),
    )
    pixels = np.random.default_rng(1).integers(0, 256, (30, 1, 8, 8), np.uint8)
    features = behind.standardised(pixels)
    np.testing.assert_array_equal(behind.restored(features), pixels)
    network = network_of()
    oracle = oracle_of(writer(network, behind)(network, "float32"), behind)
    np.testing.assert_allclose(oracle.query(features), of_network(network).query(features), atol=1e-3)
    # What lies between two pixels, or beyond them, is the nearest.
    assert behind.restored(features + 1e-4).dtype == np.uint8
    np.testing.assert_array_equal(behind.restored(features + 1e-4), pixels)
    assert set(behind.restored(np.float32([[[[-99.0, 99.0]]]])).ravel()) == {0, 255}


def test_numbers_come_back_in_the_users_unit():
    table = replace(unchanged((2,)), mean=np.float32([100, -5]), deviation=np.float32([2, 0.1]))
    given = np.float32([[98, -5.2], [103.5, -4.9]])
    np.testing.assert_allclose(table.restored(table.standardised(given)), given, rtol=1e-6)
