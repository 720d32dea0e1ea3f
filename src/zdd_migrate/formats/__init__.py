"""One file per output format: findings, explanations, plans and verdicts as text for someone."""
