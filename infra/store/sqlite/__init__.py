"""SQLite: one file, one writer, one reader."""
