"""Heads and the classifier."""

import pytest
import torch
from torch import nn

from isograft.errors import IsograftError
from isograft.networks.heads import Classifier, build_head


def test_the_papers_head_has_the_papers_proportions():
    head = build_head("paper", 1664, 4)
    assert (head.hidden.out_features, head.fc.out_features, head.drop.p) == (1200, 4, 0.5)
    assert build_head("paper", 104, 2).hidden.out_features == 75
    assert build_head("paper", 288, 2, hidden=200).hidden.out_features == 200


def test_a_classifier_is_its_head_on_its_embedding():
    classifier = Classifier(nn.Flatten(), build_head("linear", 12, 3))
    images = torch.randn(5, 3, 2, 2)
    assert torch.equal(classifier(images), classifier.head(images.flatten(1)))
    assert torch.equal(classifier.embed(images), images.flatten(1))


@pytest.mark.parametrize(("kind", "classes"), [("linear", 1), ("deep", 3)])
def test_one_class_or_an_unknown_kind_is_refused(kind, classes):
    with pytest.raises(IsograftError):
        build_head(kind, 8, classes)
