"""Train one candidate, measure it and attack it; nothing here knows of Optuna or of files."""
