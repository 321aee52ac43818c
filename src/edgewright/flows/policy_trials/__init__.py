"""`benchmark BUNDLE --policy …`: a bundle under execution policies, side by side."""
