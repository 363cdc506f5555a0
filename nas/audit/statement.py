"""A page for those who answer for a release: what was tested, who can repeat it, and what it does not show.

It is written in the terms of three sources and cites them. It says nothing of compliance: none of them is met by a test
alone, and a test that finds little does not show that there is little to find.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

from nas.audit import sentences
from nas.audit.findings import ATTACKS
from nas.audit.findings import Audit
from nas.audit.gate import Verdict
from nas.base import plugins
from nas.base.text import in_markdown

SOURCES = (
    (
        "European Data Protection Board, Opinion 28/2024 on certain data protection aspects related to the processing "
        "of personal data in the context of AI models, adopted on 17 December 2024."
    ),
    "Regulation (EU) 2024/1689 (Artificial Intelligence Act), Article 15, accuracy, robustness and cybersecurity.",
    "NIST AI 100-2 E2025, Adversarial Machine Learning: A Taxonomy and Terminology of Attacks and Mitigations, 2025.",
)
OPINION = (
    "Opinion 28/2024 of the EDPB [1] calls an AI model anonymous only if it is insignificant both how likely personal "
    "data of those whose data it was developed with can be extracted from it, and how likely such data are obtained "
    "from queries, taking into account all the means reasonably likely to be used. It leaves that to an assessment "
    "case by case, and names tests against membership inference as one part of it, beside attribute inference, "
    "exfiltration, regurgitation, model inversion and reconstruction. This audit is a test of that one part."
)
ARTICLE = (
    "Article 15 of the AI Act [2] asks of high-risk AI systems an appropriate level of accuracy, robustness and "
    "cybersecurity, and names confidentiality attacks among those that measures have to address where appropriate. "
    "Membership inference is such an attack. The error on records that the network was not trained on is a measure of "
    "accuracy on these records alone."
)
TAXONOMY = (
    "NIST AI 100-2 [3] lists membership inference among the privacy attacks on predictive AI, beside data "
    "reconstruction, property inference and model extraction. The attacker here can {access}."
)
NO_CLAIM = (
    "This page is no statement of compliance with any of the sources below, and no legal advice. A low number does not "
    "show that a network is anonymous: it shows that these attacks, on these records, found little."
)
REPEAT = (
    "Anybody who has the network, the records and the program. The same versions, data and seeds give the same numbers "
    "on the same kind of machine; all that is random is drawn from the seeds."
)
INTERVALS = (
    "The intervals are about the sample of records. They do not cover other trainings, other data, or attacks that are "
    "better than these."
)


def markdown(audit: Audit, about: Mapping[str, str], verdicts: Sequence[Verdict] = ()) -> str:
    """Write the page in Markdown.

    Args:
        audit: What was found.
        about: Facts about the network, the data and how they were audited, in order; how to repeat it among them.
        verdicts: How the audit stands against limits, if any were given.
    """
    parts = [
        "# Statement on a membership-inference test",
        NO_CLAIM,
        "## What was tested",
        OPINION,
        ARTICLE,
        TAXONOMY.format(access=_access(audit)),
        _list(_tested(audit)),
        "## What was found",
        _escaped(" ".join(sentences.summary(audit))),
        _list(audit.warnings) if audit.warnings else "There are no warnings.",
        *(["Limits that were set before the audit:", _list(sentences.of_limits(verdicts))] if verdicts else []),
        "## Who can repeat it",
        REPEAT,
        _list(f"{name}: {fact}" for name, fact in about.items()),
        "## What it does not show",
        INTERVALS,
        _list([*_limits_of_design(audit), *sentences.not_tested(audit)]),
        "## Sources",
        "\n".join(f"{number}. {_escaped(source)}" for number, source in enumerate(SOURCES, start=1)),
    ]
    return "\n\n".join(parts) + "\n"


def _tested(audit: Audit) -> list[str]:
    ran = ", ".join(found.attack for found in audit.findings)
    people = audit.people
    units = [] if people is None else [f"{len(people.is_member):,} people, each attacked with all audited records"]
    return [
        f"{audit.members:,} records that the network was trained on, and {audit.non_members:,} that it was not",
        *units,
        f"{audit.shadows:,} shadow models, networks of the same kind trained on other parts of these records",
        f"{len(audit.findings)} attacks, effort {audit.effort}: {ran}",
    ]


def _limits_of_design(audit: Audit) -> list[str]:
    left = sentences.skipped(audit)
    return [
        *([f"attacks that did not run: {', '.join(left)}"] if left else []),
        *(["no shadow models: attacks that compare with them find more"] if not audit.shadows else []),
        *([] if audit.people is not None else ["records were attacked one by one; nothing is said of people"]),
        "epsilon is a lower bound: it can show that a training is not private, and never that it is",
    ]


def _access(audit: Audit) -> str:
    ran = {found.attack for found in audit.findings}
    needs = {need for name in ran for need in plugins.find(ATTACKS, name, "NEEDS") or ()}
    known = " whose label is known" if all(found.over_gap is not None for found in audit.findings) else ""
    ways = [f"read the network's answers about a record{known}"]
    ways += ["train networks of the same kind on records like these"] if audit.shadows else []
    ways += ["ask the network about changed copies of the record"] if "queries" in needs else []
    ways += ["read the inside of the network's last layer"] if "activations" in needs else []
    return ways[0] if len(ways) == 1 else f"{', '.join(ways[:-1])} and {ways[-1]}"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_escaped(line)}" for line in lines)


def _escaped(text: str) -> str:
    """Put a text into one line in which nothing is markup or steers a terminal: users choose names."""
    return in_markdown(" ".join(text.split()))
