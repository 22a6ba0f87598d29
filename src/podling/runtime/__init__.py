"""Runs containers: the verbs of CRI (`base`), by conmon and crun (`oci`) or not at all (`fake`, for simulations)."""
