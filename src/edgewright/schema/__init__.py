"""The project's words as frozen records. No input or output happens here."""
