"""The documentation site: guides in Markdown, and a page a module from its docstrings. `make docs` builds it."""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # importing every module asks nothing of a network
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from fewstep import __version__

project, author, copyright = "fewstep", "The fewstep contributors", "The fewstep contributors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "api_pages", "api_docstrings", "api_complete"]
exclude_patterns = ["_ext"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

html_theme = "furo"
html_title = "fewstep"
html_static_path: list[str] = []
html_copy_source = False
highlight_language = "bash"  # what is merely indented on the pages is a command
nitpicky = False  # names of other libraries lead nowhere, as nothing is downloaded
suppress_warnings = ["ref.python"]  # a short name that several modules have leads to one of them

autodoc_default_options = {
    "members": True,
    "undoc-members": True,
    "member-order": "bysource",
    "show-inheritance": True,
    "special-members": "__call__",
}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
