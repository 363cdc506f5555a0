"""The search: data, training, evaluation, the Optuna study and the command line."""

import os

# ONNX Runtime from 1.29 on tells its maker which models are opened, with hashes of their weights, unless this is set
# before it is imported. Networks trained on people's data are nobody else's business. Whoever wants it sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
