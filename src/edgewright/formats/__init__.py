"""What is this file? Formats are told by their bytes; signature and graph are read without any runtime."""
