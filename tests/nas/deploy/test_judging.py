import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from onnx import numpy_helper

from estimators.estimate import Estimate
from nas.deploy import judging
from nas.deploy.judging import Judgement
from nas.deploy.judging import Tolerances
from nas.deploy.judging import Witnesses
from nas.deploy.onnx_file import to_onnx
from nas.training.loop import Labelled
from search_spaces.graph.builder import GraphBuilder
from search_spaces.network import build

AT_ZERO = Estimate(0.0, -0.01, 0.01)
RIGHT = Estimate(0.1, 0.05, 0.2)


def identity():
    """A network that answers with its record of two numbers, and its file."""
    graph = GraphBuilder((2,))
    graph.linear(0, 2, bias=False)
    architecture = graph.architecture("example", {})
    network = build(architecture).eval()
    with torch.no_grad():
        network.op1_linear.weight.copy_(torch.eye(2))
    return network, to_onnx(architecture, network, "float32", torch.zeros(1, 2))


def file_that_multiplies(factors):
    """A file that multiplies each column by a number."""
    weight = numpy_helper.from_array(np.float32(np.diag(factors)), "weight")
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 2]) for name in ("records", "logits")]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["records", "weight"], ["logits"])], "x", ends[:1], ends[1:], [weight]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def labelled(rows, labels):
    return Labelled(torch.tensor(rows, dtype=torch.float32), torch.tensor(labels))


def test_a_file_is_held_against_its_network_by_hand():
    network, model = identity()
    # The network is right on all four; a file that halves the second column errs on the third.
    check = labelled([[2, 1], [0, 1], [1, 1.5], [3, 0]], [0, 1, 1, 0])
    members, others = labelled([[4, 0], [0, 4]], [0, 1]), labelled([[1, 0], [0, 1]], [0, 1])
    witnesses = Witnesses(check, members, others)
    same = judging.judge(model, network, check.features, witnesses)
    assert (same.agreement, same.error.value, same.error_increase.value) == (1.0, 0.0, 0.0)
    # Both members lie above both others.
    assert (same.loss_auc.value, same.loss_auc_increase.value) == (1.0, 0.0)
    halved = judging.judge(file_that_multiplies([1, 0.5]), network, check.features, witnesses)
    assert (halved.agreement, halved.error.value, halved.error_increase.value) == (0.75, 0.25, 0.25)
    # Sure by 4 and 2 on members, by 1 and 0.5 on others.
    assert halved.loss_auc.value == 1.0
    turned = judging.judge(file_that_multiplies([-1, 1]), network, check.features, witnesses)
    # Sure by -4 and 4 on members, by -1 and 1 on others: two of four pairs.
    assert (turned.loss_auc.value, turned.loss_auc_increase.value) == (0.5, -0.5)
    assert judging.judge(model, network, check.features, None) == Judgement(1.0)


def test_the_increase_is_the_files_minus_the_networks():
    network, _ = identity()
    labels = [1, 1, 1, 0]  # the network errs on the first alone, its mirrored file on the others
    check = labelled([[2, 1], [0, 1], [1, 1.5], [3, 0]], labels)
    found = judging.judge(file_that_multiplies([-1, -1]), network, check.features, Witnesses(check, check, check))
    assert (found.error.value, found.error_increase.value) == (0.75, 0.5)


def test_answers_that_are_not_finite_are_refused():
    network, _ = identity()
    check = labelled([[2, 1], [0, 1]], [0, 1])
    with pytest.raises(ValueError, match=r"^expected finite answers of the written file; got NaN or infinity"):
        judging.judge(file_that_multiplies([np.nan, 1]), network, check.features, Witnesses(check, check, check))


@pytest.mark.parametrize(
    ("increase", "accepted"),
    [
        (Estimate(0.03, 0.001, 0.08), False),
        (Estimate(0.03, -0.001, 0.08), True),  # a rise that may be none
        (Estimate(0.02, 0.001, 0.05), True),  # the tolerance itself
        (Estimate(-0.2, -0.3, -0.1), True),  # better than its network
        (Estimate(0.5, 0.3, 0.7), False),
    ],
)
def test_a_rise_counts_if_it_is_above_the_tolerance_and_surely_there(increase, accepted):
    for worse, flag in (
        (Judgement(0.9, RIGHT, increase, RIGHT, AT_ZERO), "--max-error-increase"),
        (Judgement(0.9, RIGHT, AT_ZERO, RIGHT, increase), "--max-leakage-increase"),
    ):
        if accepted:
            judging.check(worse, "int8", 100, Tolerances())
            continue
        with pytest.raises(ValueError, match=f"{flag}.*: the file is not written$"):
            judging.check(worse, "int8", 100, Tolerances())


def test_each_tolerance_is_its_own():
    worse = Judgement(0.9, RIGHT, Estimate(0.03, 0.01, 0.08), RIGHT, Estimate(0.03, 0.01, 0.08))
    judging.check(worse, "int8", 100, Tolerances(error=0.03, leakage=0.03))
    with pytest.raises(ValueError, match="--max-leakage-increase"):
        judging.check(worse, "int8", 100, Tolerances(error=0.03))
    with pytest.raises(ValueError, match="--max-error-increase"):
        judging.check(worse, "int8", 100, Tolerances(leakage=0.03))


@pytest.mark.parametrize(
    ("agreement", "records", "accepted"),
    [
        (0.97, 100, False),
        (0.99, 100, True),
        (0.95, 20, True),
        (0.9, 20, False),
        (0.985, 1000, False),
        (0.99, 1000, True),
    ],
)
def test_a_float_file_must_name_the_networks_classes(agreement, records, accepted):
    """One record of few may lie on the edge of a rounding; two may not."""
    found = Judgement(agreement, RIGHT, AT_ZERO, RIGHT, AT_ZERO)
    judging.check(found, "int8", records, Tolerances())
    judging.check(Judgement(agreement), "float32", records, Tolerances())  # of random weights nothing is judged
    if accepted:
        judging.check(found, "float32", records, Tolerances())
        return
    with pytest.raises(ValueError, match=r"^expected the float32 file to name PyTorch's class for 99% of \d+ records"):
        judging.check(found, "float32", records, Tolerances(error=1, leakage=1))


@pytest.mark.parametrize("value", [float("nan"), -0.01, 1.01])
def test_a_tolerance_is_a_share(value):
    with pytest.raises(ValueError, match=r"^expected --max-error-increase from 0 to 1; got"):
        Tolerances(error=value)
    with pytest.raises(ValueError, match=r"^expected --max-leakage-increase from 0 to 1; got"):
        Tolerances(leakage=value)
