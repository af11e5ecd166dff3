"""`permissions.yaml` and the public keys in it: from text with line numbers to a `Policy`."""
