"""Storage pools and volumes: their documents, what is allowed, and this member's part of them."""
