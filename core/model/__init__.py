"""The model: frozen values of the domain, which import nothing else of the house."""
