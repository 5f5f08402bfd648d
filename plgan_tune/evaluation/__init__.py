"""Evaluation of the best configurations of a search on the test images, with paired seeds."""
