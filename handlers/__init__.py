"""What arrives over HTTP and what is answered. No decision is made here."""
