"""Few trained parameters beside frozen weights: what is trained, its file, and a training for one user."""
