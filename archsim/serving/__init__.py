"""Requests served by engines at the pace of iterations that are looked up: deployments, replicas, questions, plans."""
