"""What bounds a run, and what would a faster part gain?"""

import archsim

result = archsim.run("llama_3_8b_on_tpu_v4i", {"workload.output": 16})
print(result)
for server, seconds in result.time_by_bound.items():
    gain = result.time_s / result.what_if_s[server]
    print(f"{server:>10}: {seconds / result.time_s:6.1%} of the time; twice as fast: {gain:.2f}x")
print(result.ops().groupby("kind")["energy_j"].sum().sort_values(ascending=False))
