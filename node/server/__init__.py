"""The server's own configuration and what GET /1.0 says about it."""
