"""Benchmarks: each takes --kubeconfig, so the same script measures any cluster.

python -m benchmarks                          a cluster of its own, all benchmarks, beside the budgets
python -m benchmarks --kubeconfig FILE pods api watch
"""
