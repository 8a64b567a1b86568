"""Configuration: paths, settings, fitted profiles, the environment of libraries."""
