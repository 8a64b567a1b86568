"""What a person has set and where things lie: paths, settings, fitted profiles, the environment of libraries."""
