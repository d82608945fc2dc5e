"""Events: what the journal says, as a stream for whoever listens and as signed webhooks."""
