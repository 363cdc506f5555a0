"""One to three convolutions of one width and precision, for images and signals."""

from optuna.distributions import CategoricalDistribution
from optuna.distributions import IntDistribution

from search_spaces.graph.builder import GraphBuilder
from search_spaces.space import NamedNetwork
from search_spaces.space import SearchSpace

CHOICES = {
    "depth": IntDistribution(1, 3),
    "width": CategoricalDistribution([8, 16, 32]),
    "weight_bits": CategoricalDistribution([32, 8, 4, 2, "ternary", 1]),
    "tensor_bits": CategoricalDistribution([32, 8, 4]),
}
REFERENCE = {"depth": 1, "width": 8, "weight_bits": 32, "tensor_bits": 32}
NETWORKS = {"two-convs-16": NamedNetwork({"depth": 2, "width": 16}, (1, 8, 8), 10, "Gecko NAS, docs/own_space.md")}


def make_space(input_shape, num_classes):
    """Return the space for one kind of input: the shape of a record and the number of classes."""
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(
            f"expected records (channels, height, width) for the space 'small_convs'; got shape {input_shape}"
        )
    if num_classes < 2:
        raise ValueError(f"expected two classes or more; got {num_classes}")

    def describe(params):
        graph = GraphBuilder(input_shape, bits=params["tensor_bits"])
        x = 0  # the input; every method appends one operator and returns its number
        for _ in range(params["depth"]):
            x = graph.conv(x, params["width"], kernel=(3, 3), padding=(1, 1), weight_bits=params["weight_bits"])
            x = graph.activation(graph.norm(x), "relu", bits=params["tensor_bits"])
        _, height, width = graph.ops[x].shape
        x = graph.pool(x, "avg", kernel=(height, width), stride=(height, width))
        graph.linear(graph.flatten(x), num_classes, bias=True, weight_bits=params["weight_bits"])
        return graph.architecture("small_convs", params)

    return SearchSpace("small_convs", input_shape, num_classes, CHOICES, describe, REFERENCE)
