"""Certificates of trusted clients, and the judgement who is trusted."""
