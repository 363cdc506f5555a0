import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from estimators.leakage.evidence import Evidence
from estimators.leakage.evidence import Oracle
from nas.audit.attack_all import audit
from nas.base.onnx_runtime import session
from nas.defences import memguard
from nas.defences.memguard import MaskedConfidences
from nas.deploy.onnx_file import to_onnx
from nas.training.answers import answering
from search_spaces.graph.builder import GraphBuilder
from search_spaces.network import build
from tests.overfit import overfit

few = settings(max_examples=200, deadline=None, derandomize=True)
ORDINARY = st.floats(-30, 30, width=32)
CLOSE = st.sampled_from([0.0, 1e-7, -1e-7, 1e-6, 1.0])


@few
@given(st.floats(0.01, 2.0), st.lists(st.one_of(ORDINARY, CLOSE), min_size=2, max_size=12))
def test_the_class_stays_and_confidences_sum_to_one_and_move_no_further_than_allowed(distortion, values):
    logits = torch.tensor([values])
    answers = MaskedConfidences(distortion)(logits)
    assert answers.argmax(dim=1).tolist() == logits.argmax(dim=1).tolist()
    assert answers.exp().sum().item() == pytest.approx(1, abs=1e-5)
    moved = (answers.exp() - logits.softmax(dim=1)).abs().sum().item()
    assert moved <= distortion + 1e-5
    assert torch.equal(MaskedConfidences(distortion)(logits), answers)


def test_confidences_by_hand():
    confident = torch.tensor([[0.9, 0.06, 0.04]]).log()
    # equal but for the class on top: 1/3 + 1e-3, and half of the rest each
    equal = torch.tensor([1 / 3 + 1e-3, (2 / 3 - 1e-3) / 2, (2 / 3 - 1e-3) / 2])
    shares = torch.tensor([0.9, 0.06, 0.04])
    away = (equal - shares).abs().sum()
    torch.testing.assert_close(MaskedConfidences(2.0)(confident).exp()[0], equal)
    torch.testing.assert_close(MaskedConfidences(0.5)(confident).exp()[0], shares + 0.5 / away * (equal - shares))


def test_the_strongest_mask_leaves_nothing_but_the_class_to_the_last_bit():
    logits = 8 * torch.randn(400, 5, generator=torch.Generator().manual_seed(0))
    answers = MaskedConfidences(2.0)(logits)
    assert len(torch.unique(answers, dim=0)) == 5
    # the planted fault: adding the change to the confidence leaves what rounding made of it
    shares = logits.softmax(dim=1)
    added = (shares + (answers.exp() - shares)).log()
    assert len(torch.unique(added, dim=0)) > 5


@pytest.mark.parametrize("distortion", [0.0, -1.0, 2.5])
def test_distortions_that_confidences_cannot_have_are_refused(distortion):
    with pytest.raises(ValueError, match=f"^expected memguard.distortion from 0.01 to 2; got {distortion}$"):
        memguard.check(distortion)


@pytest.mark.parametrize("distortion", [0.3, 2.0])
def test_an_exported_file_masks_as_the_network_does(distortion):
    graph = GraphBuilder((20,))
    graph.linear(0, 4)
    architecture = graph.architecture("example", {})
    network = build(architecture, seed=1).eval()
    records = 3 * torch.randn(200, 20, generator=torch.Generator().manual_seed(0))
    answering(network, MaskedConfidences(distortion))
    told = to_onnx(architecture, network, "float32", records)
    (answered,) = session(told).run(["logits"], {"records": records.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(answered, network(records).numpy(), atol=1e-4)
    if distortion == 2.0:
        assert len(np.unique(answered, axis=0)) == 4


# What an audit shows of it.


@pytest.fixture(scope="module")
def audits():
    """Audits of one network that knows its members by heart: as trained, with half a mask, and behind a whole one."""
    evidence, is_member = overfit("mlp", references=0, epochs=40)

    def behind(answers):
        def query(features):
            logits = torch.from_numpy(np.asarray(evidence.oracle.query(features)))
            return np.asarray(answers(logits).numpy())

        return Evidence(query(evidence.features), evidence.labels, features=evidence.features, oracle=Oracle(query))

    attacks = ["loss", "confidence", "entropy", "modified_entropy", "gap", "label_noise"]
    return [
        audit(behind(answers), is_member, seed=0, effort="full", attacks=attacks)
        for answers in (torch.nn.Identity(), MaskedConfidences(1.0), MaskedConfidences(2.0))
    ]


def test_attacks_by_confidences_lose_what_the_whole_mask_hides(audits):
    plain, _, hidden = audits
    for name in ("loss", "confidence", "entropy", "modified_entropy"):
        assert plain.finding(name).auc.value > hidden.finding(name).auc.high, name
    assert hidden.finding("entropy").auc.low <= 0.5 <= hidden.finding("entropy").auc.high
    # the class is all they have left: they find what the accuracy gap finds, and how sums are rounded for a class
    assert hidden.finding("loss").auc.value == pytest.approx(hidden.finding("gap").auc.value, abs=0.005)


def test_a_mask_within_a_smaller_distortion_leaves_the_order(audits):
    plain, half, _ = audits
    assert half.finding("loss").auc.value == pytest.approx(plain.finding("loss").auc.value, abs=0.05)


def test_attacks_by_labels_alone_see_through_it(audits):
    assert audits[0].finding("label_noise").auc.low > 0.55
    for name in ("gap", "label_noise"):
        for found in audits:
            np.testing.assert_array_equal(found.finding(name).scores, audits[0].finding(name).scores, err_msg=name)
