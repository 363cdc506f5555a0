"""What pytest does not look into for doctests."""

# They import NNI, an optional extra, as soon as they are imported; none has a doctest.
collect_ignore = ["nas/nni/manager.py", "nas/nni/strategy.py", "nas/nni/trial.py", "nas/nni/tuner.py"]
