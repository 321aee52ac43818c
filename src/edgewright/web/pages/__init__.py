"""One module per page or part of a page."""
