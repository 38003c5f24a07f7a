"""From the content of a page to its HTML: the kinds of content, human names, and the Jinja2 templates."""
