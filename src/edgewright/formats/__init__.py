"""Model formats: detection by bytes; reading of signature and graph without any runtime."""
