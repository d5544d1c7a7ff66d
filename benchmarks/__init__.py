"""Speed, measured side by side with the peers; nothing here is a test."""
