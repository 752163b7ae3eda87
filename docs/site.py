"""Hooks of the documentation site: its navigation, and the pages that stand outside `docs`.

`docs/index.md` lists every page, and the navigation is read from there. Pages of the repository's root become
pages of the site under `project/`, and links are rewritten in both directions.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

#: Files of the repository's root that the site has too
PROJECT = [*sorted(path.name for path in ROOT.glob("*.md")), "LICENSE"]

_LINK = re.compile(r"(\]\()([^)\s#]+)")
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set the navigation: the index, then its sections with the pages to which each links."""
    index = (ROOT / "docs/index.md").read_text()
    _, *parts = _SECTION.split(index)
    config.nav = [
        "index.md",
        *(
            {title: [in_site(link, "docs/index.md") for _, link in _LINK.findall(text)]}
            for title, text in zip(parts[::2], parts[1::2], strict=True)
        ),
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of the repository's root; the navigation has those that the index links to."""
    for name in PROJECT:
        file = File.generated(config, f"project/{name}", abs_src_path=str(ROOT / name))
        file.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite relative links that lead into or out of `docs`."""
    source = page.file.src_uri
    path = source.removeprefix("project/") if source.startswith("project/") else f"docs/{source}"

    def rewrite(match: re.Match[str]) -> str:
        before, link = match.groups()
        if re.match(r"[a-z]+:", link):
            return match[0]
        return before + posixpath.relpath(in_site(link, path), posixpath.dirname(source) or ".")

    return _LINK.sub(rewrite, markdown)


def in_site(link: str, path: str) -> str:
    """Return the source in the site of a file that `path`, relative to the repository, links to."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    return target.removeprefix("docs/") if target.startswith("docs/") else f"project/{target}"
