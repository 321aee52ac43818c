"""One file per revision, in order; `schema.REVISIONS` lists them."""
