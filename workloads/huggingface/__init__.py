"""Configurations as Hugging Face publishes them: ``config.json`` of a model."""
