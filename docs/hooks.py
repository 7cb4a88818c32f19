"""Make pages of the site from files that stand elsewhere in the repository.

Links are written for the repository.  On the site those to pages lead to the pages; of those to
other files, such as code, the words alone are left.
"""

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "config/README.md": "config.md",
    "benchmarks/README.md": "benchmarks.md",
    "workflow/resources/quickstart/README.md": "quickstart.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s:#]+)((?:#[^)\s]*)?)\)")  # to a file, relative


def on_files(files, config):
    """Add the pages whose files lie outside of docs/."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn the links of a page from those of the repository into those of the site."""
    return links_of_the_site(markdown, page.file.src_uri)


def links_of_the_site(markdown: str, page: str) -> str:
    """Return the text of a page with links as the site has them.

    Args:
        markdown: The text as it stands in the repository.
        page: The path of the page on the site.
    """
    folder = posixpath.dirname(SOURCES.get(page, f"docs/{page}"))

    def replaced(found: re.Match) -> str:
        image, words, target, anchor = found.groups()
        path = posixpath.normpath(posixpath.join(folder, target))
        there = PAGES.get(path) or (path[5:] if path.startswith("docs/") else None)
        if there is None:
            return words
        relative = posixpath.relpath(there, posixpath.dirname(page) or ".")
        return f"{image}[{words}]({relative}{anchor})"

    return LINK.sub(replaced, markdown)
