"""`permissions.yaml` and the public keys in it: from text with line numbers to `core.policy.Policy`."""
