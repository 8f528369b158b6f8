"""Images: their documents and aliases, this member's files, and fetching those of others."""
