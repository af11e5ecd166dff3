"""Services: what a service asks for, use case by use case."""
