"""What `mkdocs.yml` asks for when it makes the site: pages are written for the repository, where they are read, too.

A link to a file beside `docs` becomes its name: the site has no sources. A listing's title becomes a line above it.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

TITLE = re.compile(r'^```(\w+) title="([^"]+)"$', re.MULTILINE)
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page as the site has it."""
    folder = posixpath.dirname(page.file.src_uri)

    def kept(link: re.Match[str]) -> str:
        leads_to = posixpath.normpath(posixpath.join(folder, link[2]))
        return link[1] if leads_to.startswith("..") else link[0]

    return LINK.sub(kept, TITLE.sub(r"`\2`:\n\n```\1", markdown))
