"""SQL: each operation's statements, by what they are about; any database of ours can run them."""
