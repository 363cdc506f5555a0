"""What pytest does not look into for doctests."""

# They import NNI, an optional extra, as soon as they are imported; none has a doctest.
collect_ignore = ["nas/nni_manager.py", "nas/nni_strategy.py", "nas/nni_trial.py", "nas/nni_tuner.py"]
