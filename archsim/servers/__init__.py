"""A row of servers under a power cap: phases of serving, arrivals over weeks, a policy that watches the meter."""
