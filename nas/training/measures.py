"""What is measured of every candidate, by name."""

from __future__ import annotations

from collections.abc import Mapping

MEASURES: Mapping[str, str] = {
    "error": "Share of validation records misclassified; exact binomial interval, widened by what trainings vary by.",
    "balanced_error": "Error averaged over the classes, each counting the same; from exact intervals put together.",
    "rarest_class_error": "Share misclassified of the class with the fewest members; from the exact interval.",
    "leakage": "AUC of the membership attack, 0.5 when nothing leaks; interval from DeLong's, whose upper end the "
    "attack may raise to what a stronger one would find.",
    "tpr_at_1pct_fpr": "Share of members that the attack finds at 1 % FPR; interval from a bootstrap.",
    "loss_auc": "AUC of the loss threshold, the baseline of the attack; interval from DeLong's.",
    "accuracy_gap": "Accuracy on members minus accuracy on non-members; interval from Newcombe's.",
    "trainings": "Trainings that a candidate costs: its own and those of the teachers that its defence asks for.",
}
"""What is measured of every candidate, with a line on each; a defence may add what it guarantees.

Intervals are 95 %, for a training of the same recipe: those named, widened by what trainings vary by.
The errors of single classes come beside them (`nas.training.by_class`).
"""
MEASURED = tuple(MEASURES)
MAY_BE_NEGATIVE = ("accuracy_gap",)
"""Measures that may lie below 0; the others are shares, areas and counts."""
