"""A row of servers under POLCA, held against the paper's claims."""
