"""Remote repositories: the engine that every format's pull-through cache shares."""
