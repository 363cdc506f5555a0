"""The search: data, training, evaluation, the Optuna study and the command line."""
