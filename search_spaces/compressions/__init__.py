"""Compressions, one file each: what makes any network of any space smaller, as parameters that a search samples.

A file provides

- `PARAMETERS`: for each parameter the values that a search chooses from; the first changes nothing. They are sampled
  as `NAME.parameter` beside the parameters of the space.
- `compress(architecture, **parameters) -> Architecture`: the graph of the smaller network. It computes no tensor; how
  its weights come about is the training's matter (`nas.training.compressed`), which reads it off the graph.

Several compressions of one network are applied in the order of `nas.spaces.ORDER`, those of a user's own last.
"""
