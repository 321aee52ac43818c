"""What to change in a model so that it becomes smaller and faster: quantisation."""
