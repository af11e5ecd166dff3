"""Configuration: settings from the environment, and permissions.yaml."""
