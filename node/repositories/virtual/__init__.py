"""Virtual repositories: several repositories of one format under one name."""
