"""PostgreSQL: the store for several processes or machines."""
