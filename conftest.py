"""What the tests need before anything is imported: single-threaded BLAS, and no doctests in NNI's modules."""

import os

# On busy cores the threads of one BLAS wait for each other: fits of 5 s alone take 50 s when three run at once.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# They import NNI, an optional extra, as soon as they are imported; none has a doctest.
collect_ignore = [f"nas/nni/{name}.py" for name in ("manager", "model_space", "mutables", "strategy", "trial", "tuner")]
