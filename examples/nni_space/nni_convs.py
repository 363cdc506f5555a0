"""One to three layers of convolutions, written as a model space of NNI's."""

from functools import partial

from nas.nni.model_space import space_of  # first: NNI's layers need no PyTorch Lightning then

# isort: split
import nni
from nni.nas.nn.pytorch import InputChoice
from nni.nas.nn.pytorch import LayerChoice
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.nn.pytorch import MutableBatchNorm2d
from nni.nas.nn.pytorch import MutableConv2d
from nni.nas.nn.pytorch import MutableLinear
from nni.nas.nn.pytorch import Repeat
from torch import nn


class Convs(ModelSpace):
    """A stem, layers of a kind each, and what of the two the classifier reads."""

    def __init__(self, channels, num_classes):
        super().__init__()
        width = nni.choice("width", [8, 16])
        self.stem = MutableConv2d(channels, width, 3, padding=1, bias=False)
        self.norm = MutableBatchNorm2d(width)
        self.activation = LayerChoice({"relu": nn.ReLU(), "hardswish": nn.Hardswish()}, label="activation")
        self.layers = Repeat(
            lambda number: LayerChoice(
                {
                    "conv3": MutableConv2d(width, width, 3, padding=1),
                    "depthwise5": MutableConv2d(width, width, 5, padding=2, groups=width),
                    "skip": nn.Identity(),
                },
                label=f"layer{number}",
            ),
            (1, 3),
            label="depth",
        )
        self.inputs = InputChoice(2, n_chosen=None, label="inputs")
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = MutableLinear(width, num_classes)

    def forward(self, records):
        """Return logits."""
        x = self.activation(self.norm(self.stem(records)))
        x = self.inputs([x, self.layers(x)])
        return self.classifier(self.pool(x).flatten(1))


def make_space(input_shape, num_classes):
    """Return the space for one kind of input: the shape of a record and the number of classes."""
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(
            f"expected records (channels, height, width) for the space 'nni_convs'; got shape {input_shape}"
        )
    return space_of("nni_convs", partial(Convs, input_shape[0], num_classes), input_shape, num_classes)
