"""The search: settings, what they name, the Optuna study and where it is kept, the workers."""
