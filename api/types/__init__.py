"""The bodies of requests and answers, a file per noun."""
