"""What is this file? Formats are reported by their bytes; signature and graph are read without any runtime."""
