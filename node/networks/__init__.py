"""Networks: their documents, what is allowed, and this member's bridges."""
