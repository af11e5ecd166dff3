"""Jobs: the one durable engine for everything that must happen later, at least once or in order."""
