"""Times of LiteRT's operators, joined to the source graph."""
