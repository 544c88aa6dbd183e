"""Sphinx's settings; docs/_tools/site.py gathers the pages and calls Sphinx."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import detnet  # noqa: E402

project = "detnet"
author = "the authors of detnet"
release = version = detnet.__version__
copyright = author

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4

python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries = False  # a line for each module is enough beside the page, and twice as quick

smartquotes = False  # what is quoted may be typed

html_theme = "furo"
html_title = f"detnet {release}"
html_show_copyright = html_show_sphinx = html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
pygments_style, pygments_dark_style = "friendly", "monokai"
