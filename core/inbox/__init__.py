"""The inbox: what people do; each update becomes one effect, stored exactly once."""
