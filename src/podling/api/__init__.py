"""The vocabulary of Kubernetes: types, quantities, names, selectors, errors. No I/O."""
