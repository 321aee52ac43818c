"""Results of the API's functions."""
